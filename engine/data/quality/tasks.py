"""What a row teaches: answering, translating, coding…, by words of its question and the look of its answer.

A quick look for a report of the mix, English and Chinese, right for about nine rows of ten (see the tests); a question
in another language whose answer is not code is "other".
"""

from __future__ import annotations

import re

from engine.protocol.text import Text, say

TASKS: dict[str, Text] = {
    "qa": say("questions and answers", "问答"),
    "translation": say("translation", "翻译"),
    "code": say("code", "代码"),
    "summary": say("summary", "摘要"),
    "rewriting": say("rewriting", "改写"),
    "analysis": say("analysis and calculation", "分析与计算"),
    "classification": say("classification", "分类"),
    "creative": say("writing", "写作"),
    "other": say("other", "其他"),
}
"""Task → what people read."""
NAMES: tuple[str, ...] = tuple(TASKS)

_HEAD = 200
_ENGLISH: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (task, re.compile(pattern))
    for task, pattern in (
        (
            "translation",
            r"\btranslat(?:e|ion)\b|\binto (?:french|spanish|german|chinese|english|italian|japanese|latin|russian)\b"
            r"|\b(?:in|to) (?:french|spanish|german|chinese|italian|japanese)[.?:]?$",
        ),
        (
            "code",
            r"\b(?:write|create|implement|develop|design|build|construct|generate|provide|give|code|debug|fix"
            r"|edit|modify"
            r"|optimi[sz]e|refactor|output|compose) [^.?\n]{0,60}\b(?:functions? (?:to|that|which|in|for|named|called)"
            r"|program|script|code|algorithm|sql|quer(?:y|ies)|regex|regular expression|class|method|api|html"
            r"|css|python"
            r"|java|javascript|c\+\+|bash|loop|web ?page|json|xml)\b",
        ),
        (
            "summary",
            r"\bsumm?ar(?:i[sz]e|y)\b|\bsummari[sz]ing\b|\btl;?dr\b|\bcondense\b|\b(?:main|key) (?:idea|point"
            r"|takeaway)s? "
            r"(?:of|from|in) (?:the|this)|\boutline the (?:main|key)|\b(?:describe|explain|express) (?:the"
            r"|this) (?:article|text"
            r"|passage|story|paragraph) in|\bin (?:one|two|a few|your own) (?:or \w+ )?(?:sentences?"
            r"|words)\b(?=.{0,40}$)",
        ),
        (
            "rewriting",
            r"\b(?:rewrite|rephrase|paraphrase|reword|restate|re-?write|proofread|revise|correct|edit|alter"
            r"|simplify|shorten"
            r"|reorgani[sz]e|rearrange|reformat|punctuate|reverse)\b|\b(?:fix|improve|change|transform"
            r"|convert|modify|replace"
            r"|turn|make|take|reconstruct|expand|combine|insert|remove|add) [^.?\n]{0,40}\b(?:sentences?|text|paragraph"
            r"|phrase|passage|wording|verbs?|words?|tense|voice|requested changes|statement|pronoun"
            r"|adjectives?|adverbs?)\b"
            r"|\bsimilar (?:tone|meaning)\b",
        ),
        (
            "classification",
            r"\b(?:classify|categori[sz]e|label|sort|group)\b|\bsentiment\b|\btrue or false\b|\b(?:identify"
            r"|determine|detect"
            r"|decide|tell|assess|check) (?:if|whether)\b|\bspam\b|\b(?:which|select|pick"
            r"|choose) [^.?\n]{0,30}\b(?:of the following"
            r"|category|option|best|from the)|\bwhat (?:type|kind|category|part of speech) |\bodd one out\b|\bassign\b"
            r"|\bidentify the (?:incorrect|correct|odd|type|tone|genre|part of speech|category)",
        ),
        (
            "analysis",
            r"\b(?:analy[sz]e|analysis|compare|contrast|evaluate|assess|critique|calculate|compute|solve"
            r"|simulate|estimate"
            r"|deduce|infer|predict|examine|measure|convert|rank|round|factor|simplify the|discuss"
            r"|argue (?:for|against))\b"
            r"|\bdifferences? between\b|\bpros and cons\b|\b(?:advantages|strengths) and\b"
            r"|\bgiven\b[^\n]{0,60}\b(?:identify"
            r"|find|determine|extract|detect)\b|\b(?:identify|find|determine|extract|detect|count|output"
            r"|list)\b[^\n]{0,60}"
            r"\b(?:given|following|sentence|text|passage|paragraph|article|poem|sequence|equation|angles?|word in)\b"
            r"|\bevaluate\b|\bhow many\b.{0,80}\d|\b(?:equation|probability|area|volume|perimeter|average|median) of\b",
        ),
        (
            "creative",
            r"\b(?:poem|story|haiku|song|lyrics|slogan|tagline|joke|essay|blog|letter|e-?mail|speech|dialogue"
            r"|conversation"
            r"|script|riddle|metaphor|simile|novel|character|headline|caption|tweet|advert(?:isement)?|jingle"
            r"|pun|proposal"
            r"|cover letter|narrative|monologue|catchphrase|limerick|fairy tale|plot|press release|recipe|persuasive)\b"
            r"|^(?:please )?(?:write|compose|create|invent|imagine|craft|generate|make up|come up with|draft"
            r"|design|construct"
            r"|brainstorm|develop|add|continue|complete|finish|make|think of|produce|prepare|formulate|devise)\b"
            r"|\b(?:create|write|compose|generate) (?:a|an|the|some|one|two|three|\d+)\b|\bdescribe (?:the"
            r"|a) (?:scene|scenario"
            r"|physical appearance|setting|feeling|sunset)",
        ),
        (
            "qa",
            r"\?|^(?:please |can you )?(?:what|who|whom|whose|when|where|why|how|which|is|are|was|were|do"
            r"|does|did|can|could"
            r"|should|would|will|has|have)\b|\b(?:explain|describe|list|name|define|tell me|give|provide"
            r"|suggest|state|mention"
            r"|find|recommend|outline|discuss|share|identify|elaborate|what|illustrate|specify|offer|cite"
            r"|answer|detail|show"
            r"|determine|choose|propose)\b",
        ),
    )
)
_CHINESE: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (task, re.compile(pattern))
    for task, pattern in (
        ("translation", r"翻译|译成|译为|literal translation|用(?:英语|英文|法语|日语|西班牙语)(?:怎么)?(?:说|表达)"),
        (
            "code",
            r"(?:写|编写|实现|设计|创建|生成|给出|提供|开发|构建|修改|优化|调试|重构|输出"
            r"|构造)[^。？\n]{0,24}(?:代码|函数|程序|脚本|算法|查询"
            r"|正则|类\b|sql|python|java|html|css|c\+\+|循环)|(?:代码|sql|python)[^。\n]{0,12}(?:错误|输出|查询)",
        ),
        ("summary", r"总结|摘要|概括|概述|归纳|主旨|中心思想|缩写成|提炼"),
        (
            "rewriting",
            r"改写|重写|重新(?:表述|表达|组织|编写|措辞|构造|排列|撰写)|润色|修改|改正|纠正|校对|编辑|更正"
            r"|简化|改变以下|替换|换成|改为|改成|转换[为成]"
            r"|转换(?:以下|下列|给定|这)|将[^。\n]{0,40}(?:变成|变为|改)|扩展(?:以下|这个|下面|给定)|重组"
            r"|缩短|修正|添加标点|同样的意思",
        ),
        (
            "classification",
            r"分类|归类|类别|情感|判断|(?:是否|是不是)[^。？\n]{0,20}(?:正确|垃圾|属于|有效|合适)|属于(?:哪"
            r"|什么)|哪一?个[^。？\n]{0,12}最|哪一类|真还是假"
            r"|以下哪|下列哪|分组|不属于|标记",
        ),
        (
            "analysis",
            r"分析|比较|对比|评估|评价|计算|求解|求出|解方程|区别|不同之处|异同|优缺点|利弊|估算|推断|推理"
            r"|预测|排序|顺序排列|从[^。\n]{0,20}(?:找出|提取|识别)"
            r"|(?:找出|识别|提取|确定|指出|检测)[^。\n]{0,20}(?:以下|给定|下列|句子|文本|段落|文章|单词|中的)"
            r"|给定[^。\n]{0,30}(?:找出|识别|提取|确定)|论证|辩论"
            r"|多少[^。\n]{0,10}\d|平均值|\d\s?[+*/×÷]\s?\d|生成数字",
        ),
        (
            "creative",
            r"诗|故事|歌词|标语|口号|笑话|作文|散文|博客|信函|一封|邮件|演讲|对话|剧本|谜语|比喻|隐喻|小说"
            r"|标题|广告|文案|推文|日记|台词|短文|海报|菜谱|食谱"
            r"|角色|情节|^(?:请|请你)?(?:为[^。\n]{0,24})?(?:写|创作|撰写|编写|设计|创造|创建|构思|想象|编造"
            r"|续写|起草|制作|拟定|发明|构建|想出|想一|起一|造"
            r"|完成|制定|生成|添加|组成|编一)|^(?:用|使用|根据|以)[^。\n]{0,40}(?:写|创作|造句|编写|创建|生成|造一)",
        ),
        (
            "qa",
            r"[？?]|什么|如何|怎[么样]|为什么|为何|谁|哪|多少|几|吗|^(?:请|请你)?(?:解释|描述|列出|说明|介绍"
            r"|定义|给出|给我|提供|告诉|回答|举|简述|阐述|陈述|讨论"
            r"|命名|推荐|建议|列举|说出|提出|指出|找|展示|识别|确定|对于)|列出|解释|描述|说明",
        ),
    )
)
_CODE_ANSWER = re.compile(r"```|^\s*(?:def |class |import |#include|public |SELECT |<html|function )", re.MULTILINE)

_CALCULATION = re.compile(r"\d[ )%]*[-+*/×÷x][ ($]*\d[^=\n]{0,30}=[ $<]*\d")


def task_of(question: str, answer: str) -> str:
    """A key of `TASKS`.

    Args:
        question: its first 200 characters are looked at.
        answer: its first 200 characters are looked at, for code and for sums.
    """
    head = question[:_HEAD].strip().lower()
    rules = _ENGLISH if head.isascii() or not _has_chinese(head) else _CHINESE
    task = next((name for name, pattern in rules if pattern.search(head)), "other")
    # Somebody who asks a question and is answered with a program has asked for code, with sums for a sum.
    if task in _MAY_BE_CODE and _is_code(answer):
        return "code"
    return "analysis" if task in ("qa", "other") and _CALCULATION.search(answer[:_HEAD]) else task


_MAY_BE_CODE = frozenset(("creative", "qa", "rewriting", "analysis", "other"))


def _is_code(answer: str) -> bool:
    return _CODE_ANSWER.search(answer[:_HEAD]) is not None


def _has_chinese(text: str) -> bool:
    return any("\u4e00" <= letter <= "\u9fff" for letter in text)
