"""The service without Modal, for the suite: until functions/standalone.py serves it. `python -m tests.conformance.provisional PORT`."""

import sys

import uvicorn

from functions.engines.base import Address
from functions.engines.scripted import ScriptedEngine
from infra.configuration import load_settings
from tests.ports import free_port
from web.application import create_application
from web.engines import ConfiguredEngines, EngineTarget
from web.services import Services


def main() -> None:
    settings = load_settings()
    targets = {}
    engines = []
    for model in settings.models.available_models:
        address = Address(host="127.0.0.1", port=free_port())
        engine = ScriptedEngine(address=address, model_name=model.name, arguments=model.scripted_args)
        engine.start()
        engines.append(engine)
        targets[model.id] = EngineTarget(url=f"http://127.0.0.1:{address.port}", kind="scripted", model=model.name)
    app = create_application(Services(settings=settings, engines=ConfiguredEngines(settings.models, targets)))
    try:
        uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", log_level="warning", access_log=False)
    finally:
        for e in engines:
            e.stop()


main()
