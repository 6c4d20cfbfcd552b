"""Serve a trained model: a page to drop an image on, and an HTTP interface."""

import argparse
import os
from pathlib import Path

from segkit.commands.output import say
from segkit.errors import ConfigError
from segkit.runtime.process import importing

TOKEN = "SEGKIT_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="+", type=Path, help="a checkpoint, several that vote, or an exported model")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"holds the bearer token to ask for; or set {TOKEN}"
    )
    limits = parser.add_argument_group("limits of a request")
    limits.add_argument("--max-bytes", type=int, default=32 * 2**20, metavar="N", help="of a body (default: 32 MiB)")
    limits.add_argument("--max-megapixels", type=float, default=50.0, metavar="N", help="of an image (default: 50)")
    limits.add_argument("--seconds", type=float, default=30.0, metavar="S", help="for body and answer (default: 30)")
    limits.add_argument("--queue", type=int, default=256, metavar="N", help="images that may wait (default: 256)")
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help="images per forward pass (default: 1 on a CPU, 16 on a GPU)"
    )
    parser.add_argument("--as", dest="interface", choices=("page", "label-studio"), default="page",
                        help="label-studio: Label Studio's interface for ML backends (default: page)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: auto)")


def run(arguments: argparse.Namespace) -> int:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise ConfigError(
            f"serve: needs the package {error.name}, which isn't installed; install it with pip install 'segkit[serve]'"
        ) from error
    for name, value in (("--max-bytes", arguments.max_bytes), ("--queue", arguments.queue),
                        ("--seconds", arguments.seconds), ("--max-megapixels", arguments.max_megapixels)):  # fmt: skip
        if value <= 0:
            raise ConfigError(f"{name} {value}: expected a number above 0")
    with importing():
        from segkit.inference.predictor import Predictor
        from segkit.serving.app import LOCAL_HOSTS, build_app
        from segkit.serving.upload import Limits

    predictor = Predictor.load(arguments.model, device=arguments.device)
    local = arguments.host in ("127.0.0.1", "localhost", "::1")
    limits = Limits(arguments.max_bytes, arguments.max_megapixels, arguments.seconds, arguments.queue)
    name = ", ".join(path.name for path in arguments.model)
    token = _token(arguments)
    if arguments.interface == "label-studio":
        from segkit.serving.label_studio import build_backend

        app = build_backend(predictor, name=name, limits=limits, token=token)
    else:
        app = build_app(
            predictor,
            name=name,
            limits=limits,
            batch_size=arguments.batch_size,
            token=token,
            hosts=LOCAL_HOSTS if local else None,
        )
    if not local and token is None:
        say(f"warning: whoever reaches this machine can ask; set {TOKEN} or --token-file to ask for a token")
    say(f"serving {name}: http://{'localhost' if local else arguments.host}:{arguments.port} (Ctrl-C ends)")
    config = uvicorn.Config(
        app, host=arguments.host, port=arguments.port, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=round(arguments.seconds), limit_concurrency=4 * arguments.queue + 64,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run()
    except KeyboardInterrupt:  # uvicorn has answered what was open, and passes the signal on
        say("stopped, all requests answered")
    except SystemExit as error:
        raise ConfigError(
            f"--port {arguments.port}: can't be listened on; another program uses it, choose another port"
        ) from error
    finally:
        app.state.batcher.close()
    return 0


def _token(arguments: argparse.Namespace) -> str | None:
    """Return the token: not an argument, which every user of the machine could read. Raises ConfigError without any."""
    if arguments.token_file is None:
        return os.environ.get(TOKEN) or None
    try:
        token = str(arguments.token_file.read_text(encoding="utf-8").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {arguments.token_file}: can't be read ({error})") from error
    if not token:
        raise ConfigError(f"--token-file {arguments.token_file}: found it empty, expected a token")
    return token
