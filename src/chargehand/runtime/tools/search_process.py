"""The process that a search runs in: stdlib only, started as a script, fed on standard input.

A pattern comes from a model and can backtrack for years, which no thread can be stopped from; a
process can. It limits itself: one file may take CPU_S_PER_FILE of processor time, all of them
CPU_S, and memory is bounded; a breach ends it by signal.

Standard input: a JSON line ``{"pattern", "max_results"}``, then per file a JSON line
``{"path", "size"}`` and its bytes. Standard output: one JSON object, either ``{"error"}`` or
``{"matches": [[path, line, text], …], "files": n, "binary": n}``.
"""

import json
import re
import resource
import signal
import sys
from typing import Any, BinaryIO

CPU_S_PER_FILE = 1.0
CPU_S = 5
MEMORY_BYTES = 1_000_000_000
TEXT_CHARACTERS = 300


def main() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_PROF, CPU_S_PER_FILE)
    source = sys.stdin.buffer
    request = json.loads(source.readline())
    try:
        pattern = re.compile(request["pattern"])
    except (re.error, OverflowError, RecursionError) as error:
        answer: dict[str, Any] = {"error": str(error) or type(error).__name__}
    else:
        answer = search(source, pattern, request["max_results"])
    sys.stdout.buffer.write(json.dumps(answer).encode())


def search(source: BinaryIO, pattern: "re.Pattern[str]", max_results: int) -> dict[str, Any]:
    matches, files, binary = list[tuple[str, int, str]](), 0, 0
    while len(matches) < max_results and (header := source.readline()):
        file = json.loads(header)
        content = source.read(file["size"])
        signal.setitimer(signal.ITIMER_PROF, CPU_S_PER_FILE)
        if b"\0" in content[:8192]:
            binary += 1
            continue
        files += 1
        for number, line in enumerate(content.decode("utf-8", "replace").split("\n"), 1):
            if found := pattern.search(line):
                matches.append((file["path"], number, excerpt(line, found.start())))
                if len(matches) == max_results:
                    break
    return {"matches": matches, "files": files, "binary": binary}


def excerpt(line: str, at: int) -> str:
    """The line, or of a long one what surrounds the match."""
    line = line.rstrip("\r")
    if len(line) <= TEXT_CHARACTERS:
        return line
    start = max(0, min(at - 50, len(line) - TEXT_CHARACTERS))
    end = start + TEXT_CHARACTERS
    return f"{'…' if start else ''}{line[start:end]}{'…' if end < len(line) else ''}"


if __name__ == "__main__":
    main()
