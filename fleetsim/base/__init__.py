"""The ground: messages, strict YAML and JSON, instants, files whole or not at all, storages."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "absent": "import_without",
        "chances": "p_figure p_text percent",
        "clock": "batch_name DAY_US FIRST_US format_duration format_time Instant LAST_US "
        "parse_duration parse_time",
        "cluster": "check_address Cluster connect require_dask WAITING when_given_up",
        "errors": "cut FleetsimError found InputError is_of_the_system LINE_LIMIT modules_of "
        "nearest refused",
        "files": "claim_folder clear_left exclusive free_bytes hash_file HashingOpener leads_out "
        "links_out make_folder open_plain PARTIAL point_link publish_folder read_plain remove "
        "staging_folder sync take_lock write_file",
        "leave": "leave_process",
        "progress": "in_notebook notebook_bar PROGRESS Steps terminal_bar UNWATCHED Update",
        "project": "find_project Project ROOT_VARIABLE source_hash",
        "storage": "folders_with is_of_a_storage is_remote place reason require sizes told",
        "strict": "allowed check_fields check_value decode_struct decoder meta_of parse_scalar "
        "read_content read_mapping read_struct text whole",
        "tables": "counted Lines Note number PART Stack SVG Table with_unit",
        "terminal": "on_one_line printable warn",
        "verdict": "Verdict VERDICTS",
    },
)
