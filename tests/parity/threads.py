"""What containers that are threads cannot give, by the tests that show it: skipped under `--containers thread`.

docs/emulator.md, "Containers as threads", says the same in words.
"""

from __future__ import annotations

from collections.abc import Mapping

NETWORK = "threads have the process's network: nothing of it can be blocked"
PORTS = "threads have the process's network: one container at a time for each fixed port"
PATHS = "threads have the process's file system: what was added to an image is not at its path"
FOLDER = "threads have the process's working directory"
VOLUMES = "threads have the process's file system: one Volume for each path while the emulator runs"
PACKAGES = "threads have the process's own Python and packages"
MEMORY = "threads have no memory of their own: what containers hold, the emulator's process holds"
OVERTAKEN = "in one process, the client's own race: an exception can overtake the last items of a generator"
MODULES = "a module of the test's own that has the same name as one of the container's is what C code finds"

NOT_ON_THREADS: Mapping[str, str] = {
    "test_calls_values.py::test_an_exception_of_the_apps_own_class_keeps_it_where_the_class_can_be_imported": MODULES,
    "test_calls_generators.py::test_an_exception_comes_after_the_items_before_it": OVERTAKEN,
    "test_calls_values.py::test_the_emulator_does_not_hold_100_mb_in_memory": MEMORY,
    "test_classes_hooks.py::test_a_busy_container_of_a_replaced_version_finishes_and_then_runs_its_exits": VOLUMES,
    "test_classes_hooks.py::test_an_exit_is_killed_after_its_grace_period_of_30_s": VOLUMES,
    "test_classes_hooks.py::test_an_exit_that_raises_keeps_nothing_else_from_working": VOLUMES,
    "test_classes_hooks.py::test_an_exit_that_takes_a_while_is_let_finish_when_the_app_is_stopped": VOLUMES,
    "test_classes_hooks.py::test_every_exit_runs_when_an_idle_container_is_scaled_down_and_what_it_writes_is_kept": (
        VOLUMES
    ),
    "test_classes_hooks.py::test_exits_run_when_the_app_is_stopped_also_of_a_container_that_works": VOLUMES,
    "test_functions_parameters.py::test_the_variables_and_the_folder_of_an_image_are_the_container_s": FOLDER,
    "test_functions_surroundings.py::test_a_blocked_network_does_not_reach_what_others_reach": NETWORK,
    "test_functions_surroundings.py::test_a_blocked_network_lets_nothing_out_and_inputs_in_however_large": NETWORK,
    "test_functions_surroundings.py::test_the_source_is_in_the_container_unless_it_is_not_to_be": PATHS,
    "test_images_builds.py::test_a_failing_build_fails_the_deploy_with_its_log": PACKAGES,
    "test_images_installs.py::test_a_container_has_the_packages_of_its_image_and_no_others": PACKAGES,
    "test_images_installs.py::test_a_layer_is_built_on_the_one_below": PACKAGES,
    "test_servers_requests.py::test_a_server_has_one_url": PORTS,
    "test_servers_requests.py::test_requests_above_max_concurrency_are_answered_429": PORTS,
    "test_servers_sessions.py::test_a_session_starts_a_container_and_all_its_requests_reach_it": PORTS,
    "test_servers_sessions.py::test_a_session_that_is_terminated_makes_room_for_one_that_waits": PORTS,
    "test_servers_sessions.py::test_a_session_without_requests_ends_by_itself": PORTS,
    "test_cli_server_requests.py::test_requests_of_a_time_range_come_in_their_order": PORTS,
    "test_cli_server_requests.py::test_requests_are_counted_by_their_status": PORTS,
    "test_cli_server_requests.py::test_requests_to_servers_are_counted_with_their_app": PORTS,
}
"""By file and name, with why."""
