"""The Data page: what the model will learn from, exactly as it will see it."""

from __future__ import annotations

from engine.protocol.text import say
from gui.pages.page import Page


class DataPage(Page):
    """Rows, what is learned of them, and what is not used and why."""

    title = say("Data", "数据")
    subtitle = say("What your model will learn from, exactly as it will see it", "模型将学到的内容，与它看到的完全一致")

    def refresh(self) -> None:
        """Show what the data state says."""
        self.show_banner().empty(
            say("Bring your data", "导入你的数据"),
            say("JSON, JSON Lines, CSV or Parquet.", "JSON、JSON Lines、CSV 或 Parquet。"),
        )
