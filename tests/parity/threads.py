"""What containers that are threads cannot give, by the tests that show it: skipped under `--containers thread`.

docs/emulator.md, "Containers as threads", says the same in words.
"""

from __future__ import annotations

from collections.abc import Mapping

NETWORK = "threads have the process's network: nothing of it can be blocked"
PORTS = "threads have the process's network: one container at a time for each fixed port"
PATHS = "threads have the process's file system: what was added to an image is not at its path"
FOLDER = "threads have the process's working directory"
VOLUMES = "threads have the process's file system: one Volume at a time for each path"
MODULES = "a module of the test's own that has the same name as one of the container's is what C code finds"

NOT_ON_THREADS: Mapping[str, str] = {
    "test_calls_values.py::test_an_exception_of_the_apps_own_class_keeps_it_where_the_class_can_be_imported": MODULES,
    "test_classes_hooks.py::test_every_exit_runs_when_an_idle_container_is_scaled_down_and_what_it_writes_is_kept": (
        VOLUMES
    ),
    "test_classes_hooks.py::test_exits_run_when_the_app_is_stopped_also_of_a_container_that_works": VOLUMES,
    "test_functions_parameters.py::test_the_variables_and_the_folder_of_an_image_are_the_container_s": FOLDER,
    "test_functions_surroundings.py::test_a_blocked_network_does_not_reach_what_others_reach": NETWORK,
    "test_functions_surroundings.py::test_a_blocked_network_lets_nothing_out_and_inputs_in_however_large": NETWORK,
    "test_functions_surroundings.py::test_the_source_is_in_the_container_unless_it_is_not_to_be": PATHS,
}
"""By file and name, with why."""
