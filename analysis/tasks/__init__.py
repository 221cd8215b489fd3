"""What a model is asked to do with its inputs: batches and a loss per example, kept per example and per document.

>>> task = choose_task(subject)                                   # doctest: +SKIP
>>> dense = task.losses(subject.model)                            # doctest: +SKIP
>>> with intervention.apply(0.4):                                 # doctest: +SKIP
...     sparse = task.losses(subject.model)
>>> difference(sparse, dense)                                     # doctest: +SKIP
"""

from __future__ import annotations

from analysis.tasks.choosing import TASKS, choose_task, possible_tasks, why_no_classes
from analysis.tasks.losses import Losses, difference, mean_accuracy, mean_loss
from analysis.tasks.splits import SPLITS, split_documents, split_windows
from analysis.tasks.task import Task, TaskBatch

__all__ = [
    "SPLITS", "TASKS", "Losses", "Task", "TaskBatch", "choose_task", "difference", "mean_accuracy", "mean_loss", "possible_tasks",
    "split_documents", "split_windows", "why_no_classes",
]  # fmt: skip
