"""What to make, and the bytes of it: configuration, model, streams, fleet, events, lines."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "config": "Config load_config make_config scalar_keys SEED_MAX",
        "defects": "DEFECT_KINDS defect_rates DefectKind EXPECTATIONS MOST_LATE unfit_kinds",
        "encode": "defect_bytes driver_digits encode_companies encode_events line_width mean_width "
        "time_text uuid_text",
        "events": "count_events draw_events EventColumns",
        "fleet": "draw_companies Fleet",
        "kernel": "Kernel KERNELS",
        "kernel.machine": "kept_kernels",
        "kernel.reader": "line_kernel",
        "model": "choice_law COMPANY_FIELDS count_law escaped EVENT_FIELDS Field FieldKind "
        "STREAM_VERSION type_law",
        "patches": "longest_name",
        "producer": "expected_events LARGE Producer",
        "streams": "BLOCK",
        "threads": "cores Digest Future PAGE Piece Threads",
    },
)
