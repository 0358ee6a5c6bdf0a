"""Cold child processes, one at a time, and what they took."""

from fleetsim.base.face import face

__getattr__, __dir__ = face(
    __name__,
    {
        "child": "ending Standing standing",
        "cold": "container_memory_peak DataSet generate_data Repeat",
        "series": "check_room config_of_largest config_of_size count_and_hash measured_sizes "
        "path_of PATHS rising_faults running_order Size size_faults size_key_faults Sizes "
        "Workplace",
        "turns": "measure_in_turn Turn Work",
        "tree": "find_command Kill run_tree Start",
    },
)
