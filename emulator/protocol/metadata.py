"""What the client is told about objects: handle metadata, function data, an app's layout. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modal_proto import api_pb2

from emulator.protocol.schema import made
from emulator.protocol.volumes import volume_metadata
from emulator.state import WORKSPACE

if TYPE_CHECKING:
    from emulator.state import App, FunctionRecord, Staged, State

CLASS_SUFFIX = ".*"


def handle_metadata(record: FunctionRecord, staged: Staged | None = None) -> api_pb2.FunctionHandleMetadata:
    """A function as its handle knows it: names, formats, addresses; for a class, that of every method too.

    `staged`: what is not published yet, in place of what is.
    """
    definition, urls = (staged.definition, staged.urls) if staged else (record.definition, record.urls)
    metadata = made(
        api_pb2.FunctionHandleMetadata,
        function_name=definition.function_name or record.tag,
        function_type=definition.function_type,
        definition_id=(staged or record).definition_id or f"{record.function_id}:{record.version}",
        web_url=urls.get("", "") if not definition.is_server else "",
        function_schema=definition.function_schema,
        supported_input_formats=definition.supported_input_formats,
        supported_output_formats=definition.supported_output_formats,
        app_id=record.app_id,
        base_function_id=record.base_function_id,
        class_parameter_info=definition.class_parameter_info,
    )
    if definition.is_server and "" in urls:
        metadata._experimental_flash_urls.append(urls[""])
    for name, method in definition.method_definitions.items():
        metadata.method_handle_metadata[name].CopyFrom(
            api_pb2.FunctionHandleMetadata(
                function_name=method.function_name,
                function_type=method.function_type,
                web_url=urls.get(name, ""),
                is_method=True,
                use_method_name=name,
                function_schema=method.function_schema,
                supported_input_formats=method.supported_input_formats,
                supported_output_formats=method.supported_output_formats,
                app_id=record.app_id,
            )
        )
    return metadata


def function_data(record: FunctionRecord, staged: Staged | None = None) -> api_pb2.FunctionData:
    """The newer message about a function; derived from the definition where the deployer sent only that."""
    source = staged or record
    definition, urls = source.definition, source.urls
    data = api_pb2.FunctionData()
    data.CopyFrom(source.data)
    known = {field.name for field, _ in data.ListFields()}
    for field, value in definition.ListFields():
        same = api_pb2.FunctionData.DESCRIPTOR.fields_by_name.get(field.name)
        if same is None or same.type != field.type or field.name in known:
            continue
        if field.is_repeated:
            getattr(data, field.name).MergeFrom(value)
        elif field.message_type is not None:
            getattr(data, field.name).CopyFrom(value)
        else:
            setattr(data, field.name, value)
    # From 1.6 on the client insists on this one; clients before it have no such field.
    if "ranked_functions" in api_pb2.FunctionData.DESCRIPTOR.fields_by_name and not data.ranked_functions:
        data.ranked_functions.add(rank=0).function.CopyFrom(definition)
    data.web_url = urls.get("", "")
    for name in data.method_definitions:
        data.method_definitions[name].web_url = urls.get(name, "")
    return data


def app_layout(state: State, app: App, running: FunctionRecord | None = None) -> api_pb2.AppLayout:
    """An app's functions and classes, with every object that any of them depends on.

    `running`: a function whose objects are needed too, which may be of an earlier version.
    """
    layout = api_pb2.AppLayout(function_ids=app.function_ids, class_ids=app.class_ids)
    seen: set[str] = set()
    for tag, function_id in app.function_ids.items():
        record = state.functions[function_id]
        seen.add(function_id)
        layout.objects.add(object_id=function_id, function_handle_metadata=handle_metadata(record))
        if tag.endswith(CLASS_SUFFIX) and (class_id := app.class_ids.get(tag.removesuffix(CLASS_SUFFIX))):
            layout.objects.add(object_id=class_id, class_handle_metadata=class_metadata(record))
            seen.add(class_id)
    records = [state.functions[function_id] for function_id in app.function_ids.values()]
    for record in [*records, running] if running is not None else records:
        for dependency in record.definition.object_dependencies:
            if dependency.object_id not in seen:
                seen.add(dependency.object_id)
                layout.objects.append(_dependency(state, dependency.object_id))
    return layout


def class_metadata(service: FunctionRecord) -> api_pb2.ClassHandleMetadata:
    return api_pb2.ClassHandleMetadata(
        class_function_id=service.function_id, class_function_metadata=handle_metadata(service)
    )


def lifecycle(app: App) -> api_pb2.AppLifecycle:
    """What has become of an app, and when (seconds since the epoch)."""
    return api_pb2.AppLifecycle(
        app_state=app.state,
        created_at=app.created_at,
        created_by=WORKSPACE,
        deployed_at=app.deployed_at,
        deployed_by=WORKSPACE if app.deployed_at else "",
        version=app.version,
        stopped_at=app.stopped_at,
        stopped_by=app.stopped_by,
    )


def app_metadata(state: State, app: App) -> api_pb2.AppHandleMetadata:
    """An app as its handle knows it. Clients before 1.6 know no such message."""
    servers = {
        tag for tag, function_id in app.function_ids.items() if state.functions[function_id].definition.is_server
    }
    return api_pb2.AppHandleMetadata(
        description=app.description,
        app_id=app.app_id,
        environment_name=app.environment,
        lifecycle=lifecycle(app),
        functions={tag: function_id for tag, function_id in app.function_ids.items() if tag not in servers},
        servers={tag: function_id for tag, function_id in app.function_ids.items() if tag in servers},
    )


def _dependency(state: State, object_id: str) -> api_pb2.Object:
    if (volume := state.volumes.get(object_id)) is not None:
        return api_pb2.Object(object_id=object_id, volume_metadata=volume_metadata(volume))
    if (mount := state.mounts.get(object_id)) is not None:
        checksum = api_pb2.MountHandleMetadata(content_checksum_sha256_hex=mount.checksum)
        return api_pb2.Object(object_id=object_id, mount_handle_metadata=checksum)
    if (record := state.functions.get(object_id)) is not None:
        return api_pb2.Object(object_id=object_id, function_handle_metadata=handle_metadata(record))
    return api_pb2.Object(object_id=object_id)
