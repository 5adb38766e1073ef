"""Every bound of a cell, with its unit, and the relations between them."""

import msgspec

KIB = 1024
MIB = 1024 * KIB


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one executor unless it says otherwise. Construction checks the relations."""

    memory_bytes_max: int = 256 * MIB
    """Of Python the address space, of which the interpreter takes about 60 MiB. Of Deno the heap,
    and what typed arrays take beside it."""
    stack_bytes_max: int = 8 * MIB
    files_max: int = 32
    """Open files of an executor."""

    cell_memory_bytes_max: int = 1024 * MIB
    """Of a cell, with its executors and what the kernel holds for them; needs control groups."""
    cell_processes_max: int = 256
    """Processes and threads of a cell; needs control groups."""

    code_bytes_max: int = MIB
    input_bytes_max: int = MIB
    output_bytes_max: int = 512 * KIB
    stdout_bytes_max: int = 8 * KIB
    message_bytes_max: int = 4 * KIB
    """Of a message, and of a traceback."""
    request_bytes_max: int = 2 * MIB
    """Payload of a frame to an executor; larger batches travel in several."""
    reply_bytes_max: int = MIB
    """Payload of a frame from an executor; a longer one is tampering."""
    flush_bytes: int = 256 * KIB
    """An executor sends its finished results when they exceed this …"""
    flush_ms: float = 2.0
    """… or when it last sent that long ago: what a kill can make us run again."""
    batch_items_max: int = 256
    """Items of one frame; larger batches travel in several."""

    start_ms_max: float = 20_000
    """From starting bubblewrap until init is ready, 60 to 140 ms on an idle machine; and from a
    fork until the executor is hardened, 3 ms in Python and 40 ms in Deno."""
    load_ms_max: float = 2_000
    """Compiling and importing a program."""
    grace_ms: float = 3.0
    """From the soft deadline, which the executor keeps, to the kill by the host."""
    exit_ms_max: float = 2_000
    """From a kill until the kernel says that the process is gone."""

    recycle_runs: int = 100_000
    """Calls after which an executor is replaced by its spare, half a second of trivial ones …"""
    recycle_s: float = 300.0
    """… and the age at which it is."""

    rest_s: float = 5.0
    """After so long without a call an executor that shares no memory gives back what it can."""

    @property
    def text_bytes_max(self) -> int:
        """Of all that an executor says beside one result: type, message, stdout, traceback."""
        return self.stdout_bytes_max + 2 * self.message_bytes_max + KIB // 2

    def __post_init__(self) -> None:
        if self.code_bytes_max + KIB > self.request_bytes_max:
            raise ValueError("code_bytes_max must fit into request_bytes_max")
        if self.input_bytes_max + KIB > self.request_bytes_max:
            raise ValueError("input_bytes_max must fit into request_bytes_max")
        # A reply holds what is below flush_bytes and one result of full size more; KIB covers the
        # headers of that one. Replacing a lone surrogate does not lengthen a text.
        one = self.output_bytes_max + self.text_bytes_max + KIB
        if self.flush_bytes + one > self.reply_bytes_max:
            raise ValueError("flush_bytes and one full result must fit into reply_bytes_max")
        if 8 * self.request_bytes_max > self.memory_bytes_max:
            raise ValueError("memory_bytes_max must hold a request several times over")
        if self.grace_ms <= 0 or self.batch_items_max < 1:
            raise ValueError("grace_ms and batch_items_max must be positive")
