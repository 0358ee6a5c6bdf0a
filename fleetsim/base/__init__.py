"""The ground: messages, strict YAML and JSON, instants, files whole or not at all, storages."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "clock": "batch_name DAY_US format_duration format_time Instant LAST_US parse_duration "
        "parse_time",
        "cluster": "Cluster connect require_dask WAITING when_given_up",
        "errors": "FleetsimError found InputError LINE_LIMIT nearest",
        "files": "claim_folder exclusive free_bytes hash_file make_folder PARTIAL point_link "
        "publish_folder staging_folder sync write_file",
        "leave": "leave_process",
        "progress": "in_notebook notebook_bar terminal_bar UNWATCHED Update",
        "project": "find_project Project ROOT_VARIABLE source_hash",
        "storage": "folders_with is_remote place require sizes told",
        "strict": "allowed check_fields check_value decode_struct meta_of parse_scalar "
        "read_content read_mapping read_struct text whole",
        "tables": "counted number Stack Table with_unit",
        "verdict": "Verdict VERDICTS",
    },
)
