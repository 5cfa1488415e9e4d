"""The recipe: everything a run does, typed. What a method or an objective adds is declared in its own room and given to
the loader as an argument; this room imports neither.
"""

from __future__ import annotations

from typing import Literal

from pydantic import SerializeAsAny

from engine.protocol.text import say
from engine.recipe.fields import Section, setting
from engine.recipe.judge import JudgeSettings
from engine.recipe.quality import QualitySettings

RECIPE_VERSION = 1
COMMON = "common practice"
HUB_DATA = "hub:"
"""How a name in ``data.files`` says that it is a data set's id on the hub."""
QLORA_PAPER = "Dettmers et al. 2023 (QLoRA)"
ALPACA = "Stanford Alpaca"


class MethodSettings(Section):
    """What every method has. Methods add their own fields."""

    name: str


class ObjectiveSettings(Section):
    """What every objective has. Objectives add their own fields."""

    name: str


class ModelSettings(Section):
    """Which model to start from."""

    source: str = setting(
        "starter",
        label=say("Base model", "基础模型"),
        help=say(
            '"starter", a folder with safetensors, or a hub id such as Qwen/Qwen2.5-0.5B-Instruct.',
            "“starter”、含 safetensors 的文件夹，或 hub 标识，如 Qwen/Qwen2.5-0.5B-Instruct。",
        ),
        min_length=1,
    )
    revision: str = setting(
        "",
        label=say("Revision", "版本"),
        term="revision",
        help=say("Commit or tag of a hub model; empty for the newest.", "hub 模型的提交或标签；留空为最新。"),
    )


class FileSettings(Section):
    """How one file is read and mixed where it differs from the others; what is empty is as for all."""

    shape: str = setting(
        "", label=say("Shape of the rows", "数据格式"), help=say("As above, of this file.", "同上，仅此文件。")
    )
    mapping: dict[str, str] = setting(
        {}, label=say("Columns", "列对应"), help=say("As above, of this file.", "同上，仅此文件。")
    )
    encoding: str = setting(
        "",
        label=say("Text encoding", "文本编码"),
        term="encoding",
        help=say("As above, of this file.", "同上，仅此文件。"),
    )
    weight: float = setting(
        1.0,
        label=say("Weight", "权重"),
        term="sampling weight",
        help=say(
            "How often its rows are seen: 2 shows each twice a pass, 0.5 every other one.",
            "其各行出现的频率：2 表示每轮出现两次，0.5 表示只取一半。",
        ),
        ge=0,
        le=100,
    )
    prefix: str = setting(
        "",
        label=say("Task prefix", "任务前缀"),
        term="task prefix",
        help=say(
            "Put before each question of this file, so that the model can tell its tasks apart.",
            "加在此文件每个提问之前，让模型区分不同任务。",
        ),
    )


class DataSettings(Section):
    """Which rows, how they are read, and what of them is learned."""

    files: tuple[str, ...] = setting(
        (),
        label=say("Files", "文件"),
        help=say(
            "Data files, folders of them, or data sets of the hub (hub:owner/name).",
            "数据文件、包含数据文件的文件夹，或 hub 数据集（写作 hub:owner/name）。",
        ),
    )
    shape: str = setting(
        "auto",
        label=say("Shape of the rows", "数据格式"),
        help=say("Which columns mean what; auto looks at the rows.", "各列的含义；auto 会自动识别。"),
    )
    mapping: dict[str, str] = setting(
        {},
        label=say("Columns", "列对应"),
        help=say("Role → column, where the detected one is not right.", "角色 → 列名，用于更正自动识别的结果。"),
    )
    encoding: str = setting(
        "auto",
        label=say("Text encoding", "文本编码"),
        term="encoding",
        help=say("auto looks at the bytes; else a name such as gb18030.", "auto 会自动识别；也可写 gb18030 等名称。"),
    )
    per_file: dict[str, FileSettings] = setting(
        {},
        label=say("Single files", "单个文件"),
        help=say(
            "File → how it is read and mixed where it differs: shape, mapping, encoding, weight, prefix.",
            "文件 → 与其他文件不同的读取与混合方式：shape、mapping、encoding、weight、prefix。",
        ),
    )
    mixing: Literal["all", "balanced", "temperature"] = setting(
        "all",
        label=say("Several files", "多个文件"),
        term="mixing",
        help=say(
            "All takes every row; balanced shows as many rows of each file; temperature lies between.",
            "“全部”使用每一行；“均衡”使各文件的行数相同；“温度”介于两者之间。",
        ),
        choices={
            "all": say("all rows", "全部"),
            "balanced": say("balanced", "均衡"),
            "temperature": say("by temperature", "按温度"),
        },
    )
    temperature: float = setting(
        2.0,
        label=say("Mixing temperature", "混合温度"),
        term="temperature",
        help=say(
            "A file is seen in proportion to its size to the power of 1 over this: 1 is all rows, more is more even.",
            "各文件按其行数的 1/温度 次方取样：1 等于全部，越大越均衡。",
        ),
        ge=1,
        le=100,
        source="Arivazhagan et al. 2019 (Massively multilingual NMT)",
    )
    general: tuple[str, ...] = setting(
        (),
        label=say("General data", "通用数据"),
        term="replay data",
        help=say(
            "Files of general conversations that are mixed in, so that the model forgets less of what it knew.",
            "混入的通用对话文件，使模型少忘记原有能力。",
        ),
    )
    general_share: float = setting(
        0.3,
        label=say("Share of general data", "通用数据比例"),
        term="replay share",
        help=say(
            "This share of what is trained on; a row of it is seen four times a pass at most.",
            "占训练数据的比例；每轮中同一行最多出现四次。",
        ),
        ge=0.0,
        le=0.9,
        source="Muennighoff et al. 2023 (Scaling data-constrained language models) for the four times",
    )
    few_shot: int = setting(
        0,
        label=say("Examples in the prompt", "提示中的示例"),
        term="few-shot",
        help=say(
            "So many training rows stand before each question as examples; they are not trained on themselves.",
            "在每个提问之前放入若干训练行作为示例；这些行本身不参与训练。",
        ),
        ge=0,
        le=16,
    )
    decisions: str = setting(
        "",
        label=say("Decisions about rows", "对单行的决定"),
        help=say(
            "A file of changed cells and of rows set aside or taken back; the data files stay as they are.",
            "记录修改过的单元格以及搁置或取回的行；数据文件保持原样。",
        ),
    )
    template: str = setting(
        "auto",
        label=say("Chat template", "对话模板"),
        term="chat template",
        help=say(
            "auto takes the model's own, and chooses one for a base model that has none.",
            "auto 使用模型自带的模板；没有模板的基础模型会自动选择一个。",
        ),
    )
    system: str = setting(
        "",
        label=say("System prompt", "系统提示"),
        term="system prompt",
        help=say("Put before each conversation that has none of its own.", "加在没有系统提示的对话之前。"),
    )
    learn_from: Literal["answers", "last_answer", "everything"] = setting(
        "answers",
        label=say("Learn from", "学习内容"),
        term="loss mask",
        help=say(
            "Answers only is right for chat; everything also learns to write the questions.",
            "对话数据应只学回答；“全部”会连提问一起学。",
        ),
        choices={
            "answers": say("answers only", "只学回答"),
            "last_answer": say("last answer only", "只学最后一个回答"),
            "everything": say("everything", "全部文本"),
        },
        basic=True,
    )
    max_length: int = setting(
        512,
        label=say("Longest row", "最大长度"),
        term="sequence length",
        unit=say("tokens", "词元"),
        help=say(
            "Longer rows are cut or set aside. Longer needs more memory.", "更长的行会被截断或搁置。越长越占显存。"
        ),
        ge=16,
        le=1_048_576,
        basic=True,
    )
    over_long: Literal["cut", "cut_start", "drop", "split"] = setting(
        "cut",
        label=say("Over-long rows", "超长的行"),
        term="truncation",
        help=say(
            "Cut loses an end of a row; set aside loses the row; split learns all of it, piece by piece.",
            "截断会丢掉一端；搁置会丢掉整行；拆分会逐段学习全部内容。",
        ),
        choices={
            "cut": say("cut the end", "截断结尾"),
            "cut_start": say("cut the beginning", "截断开头"),
            "split": say("split into pieces", "拆成多段"),
            "drop": say("set aside", "搁置"),
        },
    )
    held_out: float = setting(
        0.1,
        label=say("Held-out share", "留出比例"),
        term="validation split",
        help=say("Rows that are never trained on, to measure with.", "不参与训练、用于评估的行。"),
        ge=0.0,
        le=0.5,
        source=COMMON,
    )
    held_out_file: str = setting(
        "",
        label=say("Held-out file", "留出文件"),
        term="validation file",
        help=say("A file of its own to measure with, instead of a share.", "用单独的文件评估，而不是按比例留出。"),
    )
    split: Literal["random", "group", "time", "column", "stratified"] = setting(
        "random",
        label=say("Held-out rows", "留出方式"),
        term="split",
        help=say(
            "At random; whole groups; the latest; those that a column names; or the same share of each label.",
            "随机；按组整体；取最新；由某列指定；或各标签按相同比例。",
        ),
        choices={
            "random": say("at random", "随机"),
            "group": say("whole groups of a column", "按列分组"),
            "time": say("the latest by a column", "按时间列取最新"),
            "column": say("as a column says", "由列指定"),
            "stratified": say("the same share of each value", "按列分层"),
        },
    )
    split_column: str = setting(
        "",
        label=say("Split by column", "划分所用的列"),
        term="split column",
        help=say(
            'Group, time or label; for "as a column says" the one that holds test, validation or held_out.',
            "分组、时间或标签列；“由列指定”时为含 test、validation 或 held_out 的列。",
        ),
    )
    order: Literal["shuffled", "shortest", "easiest", "file"] = setting(
        "shuffled",
        label=say("Order of the rows", "行的顺序"),
        term="curriculum",
        help=say(
            "Easy rows first can help small models; in random order is the rule. Easiest are those that a model finds "
            "likeliest: it reads all rows before the training.",
            "先学简单的行有时对小模型有益；通常用随机顺序。“由易到难”指模型认为最可能的行在前：训练前模型会先读一遍所有行。",
        ),
        choices={
            "shuffled": say("at random", "随机"),
            "shortest": say("shortest first", "由短到长"),
            "easiest": say("easiest first", "由易到难"),
            "file": say("as in the files", "按文件顺序"),
        },
        source="Bengio et al. 2009 (Curriculum learning)",
    )
    choice: Literal["all", "uncertain", "hardest", "easiest"] = setting(
        "all",
        label=say("Rows to train on", "参与训练的行"),
        term="active learning",
        help=say(
            "All; or the share that a model is least certain of, or that is hardest or easiest for it. It reads all "
            "rows before the training; the others are set aside.",
            "全部；或只用模型最不确定、最难或最容易的一部分。训练前模型会先读一遍所有行；其余的行会被搁置。",
        ),
        choices={
            "all": say("all", "全部"),
            "uncertain": say("the most uncertain", "最不确定的"),
            "hardest": say("the hardest", "最难的"),
            "easiest": say("the easiest", "最容易的"),
        },
        source="Settles 2009 (Active learning literature survey)",
    )
    choice_share: float = setting(
        0.5,
        label=say("Share to train on", "参与训练的比例"),
        help=say(
            "Of the rows that are not held out, where not all are trained on.",
            "不使用全部行时，从未留出的行中取多少。",
        ),
        gt=0,
        le=1,
    )
    scored_by: str = setting(
        "",
        label=say("Scored by", "评分模型"),
        term="scoring model",
        help=say(
            "A run's folder whose tuned model says which rows are easy or uncertain; empty for the base model.",
            "用哪次训练（其文件夹）的微调模型来判断难易与不确定性；留空则用基础模型。",
        ),
    )
    seed: int = setting(
        42,
        label=say("Split seed", "划分种子"),
        term="seed",
        help=say("Same seed, same held-out rows.", "种子相同，留出的行就相同。"),
        ge=0,
        le=2**31 - 1,
    )
    quality: QualitySettings = setting(
        QualitySettings(),
        label=say("Quality", "质量"),
        help=say("What is looked for in the texts: see below.", "文本检查的内容：见下文。"),
    )

    @property
    def asks_model(self) -> bool:
        """Whether a model must look at the training rows before they are trained on."""
        return self.choice != "all" or self.order == "easiest"

    def chosen(self, rows: int) -> int:
        """How many of so many rows are trained on: at least one, rounded to the nearest."""
        return rows if self.choice == "all" else max(1, round(rows * self.choice_share))


class TrainSettings(Section):
    """How long, how fast and in which portions to learn."""

    epochs: float = setting(
        3.0,
        label=say("Passes over the data", "训练轮数"),
        term="epochs",
        help=say(
            "More passes learn more and forget more; watch the held-out loss.",
            "轮数越多学得越多，也忘得越多；请看留出损失。",
        ),
        gt=0,
        le=1000,
        basic=True,
        source=ALPACA,
    )
    max_steps: int = setting(
        0,
        label=say("At most steps", "步数上限"),
        term="max steps",
        help=say("Ends the run early; 0 for no limit.", "提前结束训练；0 表示不限。"),
        ge=0,
    )
    learning_rate: float = setting(
        2e-4,
        label=say("Learning rate", "学习率"),
        term="learning rate",
        help=say("Too high is unstable, too low learns nothing.", "过高不稳定，过低学不到东西。"),
        gt=0,
        le=1.0,
        basic=True,
        source=QLORA_PAPER,
    )
    scheduler: Literal["cosine", "linear", "constant"] = setting(
        "cosine",
        label=say("Rate over time", "学习率变化"),
        term="scheduler",
        help=say("How the rate falls over the run.", "训练过程中学习率如何下降。"),
        choices={
            "cosine": say("cosine", "余弦"),
            "linear": say("linear", "线性"),
            "constant": say("constant", "不变"),
        },
        source=ALPACA,
    )
    warmup_ratio: float = setting(
        0.03,
        label=say("Warm-up share", "预热比例"),
        term="warm-up",
        help=say("Share of the steps in which the rate rises from 0.", "学习率从 0 升起的步数比例。"),
        ge=0,
        le=0.5,
        source=QLORA_PAPER,
    )
    batch_size: int = setting(
        4,
        label=say("Rows at once", "每批行数"),
        term="micro-batch",
        help=say("Rows computed together; more needs more memory.", "同时计算的行数；越多越占显存。"),
        ge=1,
        le=4096,
        basic=True,
    )
    accumulation: int = setting(
        4,
        label=say("Batches per step", "每步批数"),
        term="gradient accumulation",
        help=say("Rows at once × batches per step = effective batch.", "每批行数 × 每步批数 = 有效批大小。"),
        ge=1,
        le=4096,
        basic=True,
    )
    optimizer: Literal["adamw", "paged_adamw", "adamw_8bit", "paged_adamw_8bit"] = setting(
        "adamw",
        label=say("Optimizer", "优化器"),
        term="optimizer",
        help=say("8-bit and paged ones save GPU memory.", "8 位与分页优化器节省显存。"),
        choices={
            "adamw": say("AdamW", "AdamW"),
            "paged_adamw": say("AdamW, paged", "AdamW（分页）"),
            "adamw_8bit": say("AdamW, 8-bit", "AdamW（8 位）"),
            "paged_adamw_8bit": say("AdamW, 8-bit, paged", "AdamW（8 位，分页）"),
        },
    )
    weight_decay: float = setting(
        0.0,
        label=say("Weight decay", "权重衰减"),
        term="weight decay",
        help=say("Pulls trained weights towards 0.", "把训练的权重拉向 0。"),
        ge=0,
        le=1,
    )
    max_grad_norm: float = setting(
        0.3,
        label=say("Gradient limit", "梯度上限"),
        term="gradient norm clipping",
        help=say("Larger gradients are scaled down to this norm.", "更大的梯度会缩小到这个范数。"),
        gt=0,
        le=1000,
        source=QLORA_PAPER,
    )
    precision: Literal["auto", "bf16", "fp16", "fp32"] = setting(
        "auto",
        label=say("Number format", "数值精度"),
        term="precision",
        help=say("auto: bf16 where the GPU has it, fp32 on the CPU.", "auto：GPU 支持时用 bf16，CPU 用 fp32。"),
        choices={
            "auto": say("auto", "自动"),
            "bf16": say("bf16", "bf16"),
            "fp16": say("fp16", "fp16"),
            "fp32": say("fp32", "fp32"),
        },
    )
    checkpointing: bool = setting(
        False,
        label=say("Recompute to save memory", "重算以省显存"),
        term="activation checkpointing",
        help=say("Needs much less memory and about 30% more time.", "显存大减，时间约增 30%。"),
        source="axolotl documentation",
    )
    short_rows: Literal["grouped", "shuffled", "packed"] = setting(
        "grouped",
        label=say("Short rows", "短行"),
        term="packing",
        help=say(
            "Rows of like length together: less padding, faster. Packed rows stand behind one another without padding; "
            "none attends to another. For supervised fine-tuning only.",
            "长度相近的行放在一起：填充少，更快。拼接则无需填充，行与行之间互不可见；仅用于监督微调。",
        ),
        choices={
            "grouped": say("grouped by length", "按长度分组"),
            "shuffled": say("in random order", "随机顺序"),
            "packed": say("packed, without padding", "拼接，无填充"),
        },
        basic=True,
    )
    loss: Literal["learned", "all"] = setting(
        "learned",
        label=say("Loss is computed", "损失的计算"),
        term="fused or chunked loss",
        help=say(
            "For the tokens that are learned alone, in pieces: faster, and without the logits of the whole batch in "
            "memory. For all at once is what transformers does, to compare with. Supervised fine-tuning only.",
            "仅对要学习的词元分块计算：更快，也不必在内存中保存整批 logits。"
            "一次全部计算是 transformers 的做法，可作对照；仅用于监督微调。",
        ),
        choices={
            "learned": say("for learned tokens, in pieces", "仅学习的词元，分块"),
            "all": say("for all tokens at once", "一次计算全部词元"),
        },
        source="TRL documentation; our measurement",
    )
    attention: Literal["auto", "sdpa", "flash", "eager"] = setting(
        "auto",
        label=say("Attention", "注意力"),
        term="attention implementation",
        help=say(
            "auto: PyTorch's (SDPA), which takes the fastest kernel of the device; flash-attention for packed rows on "
            "a GPU where it is installed; eager where a model's scores allow nothing else.",
            "auto：使用 PyTorch 的 SDPA，由它选择设备上最快的内核；GPU 上拼接行且装有 flash-attention 时用后者；"
            "个别模型只能用 eager。",
        ),
        choices={
            "auto": say("auto", "自动"),
            "sdpa": say("PyTorch (SDPA)", "PyTorch（SDPA）"),
            "flash": say("flash-attention 2", "flash-attention 2"),
            "eager": say("eager", "eager"),
        },
    )
    kernels: Literal["auto", "off"] = setting(
        "auto",
        label=say("Fused kernels", "融合内核"),
        term="Liger kernels",
        help=say(
            "auto: Liger's kernels for norms, rotary positions and the gated product, on an NVIDIA GPU where "
            "liger-kernel is installed.",
            "auto：在装有 liger-kernel 的 NVIDIA GPU 上，用 Liger 内核计算归一化、旋转位置与门控乘积。",
        ),
        choices={"auto": say("auto", "自动"), "off": say("off", "关闭")},
        source="Hsu et al. 2024",
    )
    evaluate_every: int = setting(
        0,
        label=say("Measure every", "评估间隔"),
        term="eval steps",
        unit=say("steps", "步"),
        help=say(
            "Held-out loss during training; 0 chooses about ten times a run.", "训练中的留出损失；0 表示全程约十次。"
        ),
        ge=0,
    )
    save_every: int = setting(
        0,
        label=say("Save every", "保存间隔"),
        term="save steps",
        unit=say("steps", "步"),
        help=say("Checkpoints to go on from; 0 saves at each evaluation.", "可续训的检查点；0 表示每次评估时保存。"),
        ge=0,
    )
    keep_checkpoints: int = setting(
        2,
        label=say("Checkpoints to keep", "保留检查点数"),
        term="checkpoint rotation",
        help=say("Older ones are removed; the best is always kept.", "更早的会删除；最好的总会保留。"),
        ge=1,
        le=100,
    )
    save_minutes: float = setting(
        5.0,
        label=say("Most work lost", "最多损失的工作"),
        term="time between safety checkpoints",
        unit=say("minutes", "分钟"),
        help=say(
            "However the run ends, at most so much has to be done again: a checkpoint is saved when the last one is so "
            "old. Where saving would take more than 5% of the time, it is saved less often, and told. 0 saves at the "
            "steps above only.",
            "无论训练如何中断，最多重做这么久的工作：距上一个检查点达到该时间就保存一次。若保存会占用超过 5% 的时间，"
            "则减少保存并提示。0 表示只按上述步数保存。",
        ),
        ge=0,
        le=1440,
    )
    pause_minutes: float = setting(
        10.0,
        label=say("Hold memory while paused", "暂停时保留内存"),
        term="pause timeout",
        unit=say("minutes", "分钟"),
        help=say(
            "A paused run goes on at once while it holds its memory; after this time its process ends, which gives the "
            "memory back, and it goes on from its checkpoint. 0 holds it for ever.",
            "暂停的训练保留内存时可立即继续；超过该时间后进程结束并释放内存，之后从检查点继续。0 表示一直保留。",
        ),
        ge=0,
        le=1440,
    )
    patience: int = setting(
        2,
        label=say("Stop early", "提前停止"),
        term="early stopping patience",
        unit=say("evaluations without gain", "次评估无改善"),
        help=say("Ends the run when the held-out loss stops falling; 0 never.", "留出损失不再下降时结束；0 表示从不。"),
        ge=0,
        le=100,
        basic=True,
        source=COMMON,
    )
    shorten: bool = setting(
        False,
        label=say("Shorten rows as a last resort", "最后可缩短行"),
        term="truncation on out of memory",
        help=say(
            "Where memory runs out with one row at once and with recomputing on, cut the longest rows; else the run "
            "ends there.",
            "每批一行且已开启重算仍然内存不足时，截断最长的行；否则训练在该处结束。",
        ),
    )
    unstable: Literal["stop", "skip", "warn"] = setting(
        "stop",
        label=say("When the loss breaks away", "损失失控时"),
        term="loss spike, NaN",
        help=say(
            "A loss that is no number, or three steps in a row far above the fifty before: go back to the last good "
            "checkpoint and stop there; or leave those steps' rows out and go on; or only tell (no number always "
            "stops).",
            "损失不是数，或连续三步远高于此前五十步：回到最后一个正常检查点并停止；或跳过这几步的行继续；"
            "或仅提示（不是数时总会停止）。",
        ),
        choices={
            "stop": say("go back and stop", "回退并停止"),
            "skip": say("go back, leave the rows out, go on", "回退、跳过这些行并继续"),
            "warn": say("only tell", "仅提示"),
        },
        source="Chowdhery et al. 2022 (PaLM) for leaving batches out; axolotl for the three steps",
    )
    seed: int = setting(
        42,
        label=say("Seed", "随机种子"),
        term="seed",
        help=say("Same seed and machine, same run.", "种子与机器相同，结果就相同。"),
        ge=0,
        le=2**31 - 1,
    )


class EvaluateSettings(Section):
    """How base and tuned model are measured afterwards."""

    rows: int = setting(
        200,
        label=say("Rows to measure", "评估行数"),
        term="evaluation rows",
        help=say("At most so many held-out rows are answered.", "最多回答这么多留出行。"),
        ge=1,
        le=1_000_000,
    )
    max_new_tokens: int = setting(
        128,
        label=say("Longest answer", "最长回答"),
        term="max new tokens",
        unit=say("tokens", "词元"),
        help=say("Answers are cut there.", "回答在此处截断。"),
        ge=1,
        le=32768,
    )
    batch_size: int = setting(
        16,
        label=say("Rows at once", "每批行数"),
        term="evaluation batch",
        help=say("Rows answered together.", "同时回答的行数。"),
        ge=1,
        le=1024,
    )
    resamples: int = setting(
        2000,
        label=say("Drawn again for intervals", "区间抽样次数"),
        term="bootstrap resamples",
        help=say(
            "So often the held-out rows are drawn again for the intervals, and swapped for the tests; "
            "more makes both steadier.",
            "为估计区间和检验而重复抽取留出行的次数；次数越多越稳定。",
        ),
        ge=200,
        le=100_000,
    )
    probes: bool = setting(
        True,
        label=say("Look for forgetting", "检查遗忘"),
        term="general probes",
        help=say(
            "Both models also answer small general questions, to see what tuning cost.",
            "两个模型还会回答一些通用小题，以了解微调的代价。",
        ),
    )
    probe_items: int = setting(
        40,
        label=say("Questions per skill", "每项能力的题数"),
        term="probe items",
        help=say(
            "General questions of each skill and language; more makes the interval of what was forgotten narrower.",
            "每项能力、每种语言的通用题数；越多，遗忘率的区间越窄。",
        ),
        ge=5,
        le=40,
    )
    forgetting_limit: float = setting(
        0.3,
        label=say("Warn of forgetting from", "遗忘警告阈值"),
        term="forgetting rate",
        help=say(
            "(before − after) / before of a skill, above which it is warned of.",
            "某项能力的（之前 − 之后）/ 之前超过该值时给出警告。",
        ),
        gt=0,
        le=1,
        source=COMMON,
    )
    judge: JudgeSettings = setting(
        JudgeSettings(),
        label=say("Judge", "评审模型"),
        help=say("A model that compares the answers: see below.", "对回答进行比较的模型：见下文。"),
    )


class Recovered(Section):
    """What a run recovered from, and what it went on with: written into the recipe as run, never set by a person.

    Attributes:
        step: the optimizer step it happened at.
        cause: memory ran out in the process; the system ended the process; or the loss broke away.
        batch_size, accumulation, checkpointing: as in `TrainSettings`, from there on.
        held_out_rows: held-out rows measured at once.
        longest: tokens to which rows are cut; 0 leaves them as they are.
        left_out: optimizer steps whose rows are passed over.
    """

    step: int
    cause: Literal["memory", "killed", "loss"]
    batch_size: int
    accumulation: int
    held_out_rows: int
    checkpointing: bool
    longest: int = 0
    left_out: tuple[int, ...] = ()


class Recipe(Section):
    """All that a run does. Field order is the file's order.

    Attributes:
        recovered: what the run recovered from, the oldest first; only in the recipe as run.
    """

    version: Literal[1] = 1
    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    method: SerializeAsAny[MethodSettings]
    objective: SerializeAsAny[ObjectiveSettings]
    train: TrainSettings = TrainSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    recovered: tuple[Recovered, ...] = ()

    @property
    def effective_batch(self) -> int:
        """Rows per optimizer step."""
        return self.train.batch_size * self.train.accumulation
