"""The Plan page's left side: what is wished for, the methods with their costs, and why the advice is as it is."""

from __future__ import annotations

from PySide6.QtWidgets import QAbstractButton, QWidget

from engine.machine.table import GOALS, TASKS
from engine.methods.registry import METHODS
from engine.objectives.registry import OBJECTIVES
from engine.protocol.text import say
from gui.context import AppContext
from gui.i18n.language import tr
from gui.i18n.numbers import duration, gib
from gui.operations import plan as operations
from gui.widgets.basic import clear, column, holder, label, row, rule
from gui.widgets.chip import BAD, PLAIN
from gui.widgets.choice_card import ChoiceCard, ChoiceList
from gui.widgets.editors import ChoiceEditor
from gui.widgets.scroll import Sheet, scrolled
from gui.widgets.switch import Switch

WISH = say("Advise for", "建议侧重")
LEARNED = say("What is learned", "学习目标")
TEACH = say("The rows teach", "数据教的是")


class MethodPanel(QWidget):
    """Renders the advice and the draft's method.

    Attributes:
        goal: the switch of wishes; cards: the methods; objective: what is learned, where the rows hold preferences;
        task: what the rows teach.
    """

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._explained: object = None
        self.goal = Switch(WISH, [(name, words, f"Alt+{n}") for n, (name, words) in enumerate(GOALS.items(), 1)])
        self.goal.chosen.connect(self._set_goal)
        self.cards = ChoiceList(list(METHODS))
        self.cards.group.buttonClicked.connect(self._choose)
        self.objective = ChoiceEditor([(item.name, item.label) for item in OBJECTIVES.values()])
        self.objective.control.setAccessibleName(tr(LEARNED))
        self.objective.edited.connect(lambda name: operations.set_objective(self._context, str(name)))
        self._objective_row = holder(row(label(LEARNED, "muted"), self.objective, margins=(0, 4, 0, 0)))
        self.task = ChoiceEditor([])
        self.task.control.setAccessibleName(tr(TEACH))
        self.task.edited.connect(lambda name: operations.set_task(self._context, str(name)))
        self._why = column(spacing=5)
        self._lay_out()

    def _lay_out(self) -> None:
        wish = row(label(WISH, "muted"), self.goal, None, spacing=8)
        why = label(say("Why this plan", "为何如此计划"), "card")
        teach = row(label(TEACH, "muted"), self.task, None)
        inner = column(self.cards, self._objective_row, rule(), why, self._why, teach, None, margins=(0, 0, 8, 0))
        body = column(wish, scrolled(Sheet(inner)), spacing=9)
        body.setStretch(1, 1)
        self.setLayout(body)

    def controls(self) -> list[QWidget]:
        """What can have the focus, in reading order."""
        return [*self.goal.buttons.values(), *self.cards.cards.values(), self.objective.control, self.task.control]

    # ---------------------------------------------------------------------------------------------------------- filling
    def fill(self) -> None:
        """The draft or the advice is another."""
        self.goal.put(self._context.plan.goal)
        self._fill_cards()
        self._fill_task()
        advice = self._context.plan.advice
        if self._explained is advice:
            return
        self._explained = advice
        clear(self._why)
        for reason in advice.reasons if advice is not None else ():
            self._why.addWidget(label(reason, "muted", wrap=True))

    def _fill_cards(self) -> None:
        plan, chosen = self._context.plan, self._context.draft.recipe.method.name
        options = {option.method: option for option in plan.advice.alternatives} if plan.advice is not None else {}
        follows = operations.follows_any_advice(self._context)
        for name, card in self.cards.cards.items():
            own = name == chosen
            needs = options[name].forecast if follows and name in options and not own else plan.methods[name]
            settings = self._context.draft.recipe.method if own else operations.settings_for(self._context, name)
            chip, tone = ("", PLAIN) if needs.fits else (say("does not fit", "放不下"), BAD)
            if plan.advice is not None and plan.advice.recipe.method.name == name and needs.fits:
                chip, tone = say("recommended", "推荐"), PLAIN
            costs = f"{gib(needs.memory.total)} · {duration(needs.seconds)}"
            card.put(METHODS[name].describe(settings), METHODS[name].summary, costs, chip, tone)
        self.cards.choose(chosen)
        self.objective.put(self._context.draft.recipe.objective.name)
        facts = operations.data_facts(self._context)
        self._objective_row.setVisible(facts is not None and facts.preference)

    def _fill_task(self) -> None:
        facts = operations.data_facts(self._context)
        found = facts.task if facts is not None else ""
        words = next((words for name, words in TASKS.items() if name == found), TASKS["dialogue"])
        recognised = say("{task}, recognised", "{task}（已识别）", task=words)
        self.task.put_choices([("", recognised), *TASKS.items()])
        self.task.put(self._context.plan.task)

    # ---------------------------------------------------------------------------------------------------------- actions
    def _set_goal(self, name: str) -> None:
        goal = next(each for each in GOALS if each == name)
        operations.set_goal(self._context, goal)

    def _choose(self, card: QAbstractButton) -> None:
        if isinstance(card, ChoiceCard):
            operations.choose_method(self._context, card.name)
