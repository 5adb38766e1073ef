"""What the demo shows: progress on stderr while it runs, then the numbers."""

from types import TracebackType
from typing import Self

from rich import console, progress, table

from loopai.cli import generation, output, trial
from streams import messages


class Bars:
    """A line for each stage, with a bar where the stage counts. Lines also where nobody watches."""

    def __init__(self, screen: console.Console) -> None:
        self._screen = screen
        self._progress = progress.Progress(
            progress.SpinnerColumn(finished_text="•"),
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=30),
            progress.TextColumn("{task.fields[count]}", markup=False, justify="right"),
            progress.TimeElapsedColumn(),
            console=screen,
            disable=not screen.is_terminal,
            refresh_per_second=5,
        )
        self._bar: progress.TaskID | None = None
        self._text = ""

    def stage(self, text: str) -> None:
        if text == self._text:
            return
        self._end()
        self._text = text
        if self._screen.is_terminal:
            self._bar = self._progress.add_task(text, total=None, count="")
        else:
            self._screen.print(text)

    def advance(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._progress.update(
                self._bar, completed=done, total=total, count=f"{done:,}/{total:,}"
            )

    def generated(self, artifact: messages.ProgramArtifact) -> None:
        generation.show(artifact, self._screen)

    def say(self, name: str, text: str) -> None:
        """A line of a child, or about one."""
        self._screen.print(f"{name} | {text}", soft_wrap=True)

    def stop(self) -> None:
        self._end()
        self._progress.stop()

    def _end(self) -> None:
        if self._bar is not None:
            total = self._progress.tasks[self._bar].total or 1
            self._progress.update(self._bar, completed=total, total=total)
            self._progress.stop_task(self._bar)
        self._bar = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()


def results(result: trial.Result) -> table.Table:
    """The demo's numbers, as a person reads them."""
    rows = [
        ("examples", f"{result.examples:,}"),
        ("unseen rows", f"{result.unseen:,}"),
        ("accuracy on unseen rows", f"{result.accuracy:.2%}"),
        ("confidence bound (95 %, held out)", f"{result.confidence_score:.2%}"),
        ("latency p50", f"{result.p50_ms:.2f} ms"),
        ("latency p99", f"{result.p99_ms:.2f} ms"),
        ("executions/s, one by one", f"{result.single_per_s:,.0f}"),
        ("executions/s, in a batch", f"{result.batch_per_s:,.0f}"),
        ("executions", f"{result.executions:,}"),
        ("  of them failed", f"{result.failed:,}"),
        ("records in the audit stream", f"{result.audited:,}"),
        ("size of the program", f"{result.program_bytes:,} bytes"),
    ]
    return output.grid(("", "#"), rows, f"task {result.task}, version {result.version}")
