"""What `cosmos-engine isaac` starts with Isaac Sim's Python: python -m isaac_ext.headless TASK FILE.json.

The JSON file holds a `FrankaConfig` for `generate`; `{"folder": ...}` for `selfcheck`; and for `serve` a `FrankaConfig`
under `demos`, with the `port` of this machine and the `token` that the engine waits for. The exit code is 0, 1 where a
promise does not hold, or 2 for what the user can mend, which is then the last line on stderr.

How it ended is written beside FILE.json before Isaac Sim is closed, since 5.1 then ends the process with exit code 0.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cosmos_engine.errors import InputError
from isaac_ext import kit

EXIT_BAD_INPUT = 2
OUTCOME = ".outcome"
"""Suffix, in place of `.json`, of the file that tells how a task ended: JSON with `exit_code` and `error`."""
TASKS = ("generate", "selfcheck", "serve")


def main(arguments: Sequence[str]) -> int:
    """Start Isaac Sim, do what is asked, close it, and return the exit code."""
    if len(arguments) != 2 or arguments[0] not in TASKS:
        print(f"isaac_ext.headless: expected {'|'.join(TASKS)} FILE.json", file=sys.stderr)
        return EXIT_BAD_INPUT
    task, file = arguments
    options: dict[str, Any] = json.loads(Path(file).read_text(encoding="utf-8"))
    kit.add_packages()
    app = kit.start_app()
    code, line = 1, ""
    try:
        code = _run(app, task, options)
    except InputError as error:
        code, line = EXIT_BAD_INPUT, str(error)
        print(f"isaac {task}: {error}", file=sys.stderr)
    except BaseException as error:
        line = f"{type(error).__name__}: {error}"
        raise
    finally:
        Path(file).with_suffix(OUTCOME).write_text(json.dumps({"exit_code": code, "error": line}), encoding="utf-8")
        sys.stdout.flush()
        sys.stderr.flush()
        kit.close_app(app, code)
    return code


def _run(app: Any, task: str, options: dict[str, Any]) -> int:
    if task == "selfcheck":
        from isaac_ext.selfcheck import check_all

        verdicts = app.run_coroutine(check_all(Path(options["folder"])))
        return 0 if all(verdict.passed for verdict in verdicts) else 1
    from isaac_ext.franka import FrankaConfig, record_demos

    if task == "serve":
        from isaac_ext import wire
        from isaac_ext.arena import FrankaArena, serve

        with socket.create_connection(("127.0.0.1", int(options["port"]))) as connection:
            wire.send(connection, {"token": options["token"]})
            app.run_coroutine(serve(FrankaArena(FrankaConfig(**options["demos"])), connection))
        return 0
    app.run_coroutine(record_demos(FrankaConfig(**options), say=_say))
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
