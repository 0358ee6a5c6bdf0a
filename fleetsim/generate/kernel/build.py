"""Make an object file of the kernels, by numba: see `machine`, which keeps and loads it."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fleetsim.generate.kernel import compiled, counts, lines
from fleetsim.generate.kernel.interface import ELEMENTS, SIGNATURES, Kind, Signature
from fleetsim.generate.kernel.machine import ENTRY, target_machine

_HOMES = (compiled, lines, counts)
_WORD = ir.IntType(64)
_SCALARS = {"U": types.uint64, "I": types.int64}
#: What machine code may call: the standard library of C is in every process.
_OUTSIDE = {"memcpy", "memmove", "memset", "bcmp", "memcmp"}


def object_code() -> bytes:
    """Return the kernels as an object file for this processor.

    Raises
    ------
    RuntimeError
        Where numba's code is not of the form that is expected, or needs something of numba.
    """
    module = llvm.parse_assembly("")
    compiled.keep_nothing()  # or what the kernels call would be kept, and by numba's cache
    try:
        for name, signature in SIGNATURES.items():
            for text in _compile(name, signature):
                module.link_in(llvm.parse_assembly(text))
    finally:
        compiled.keep_all()
    for each in (*module.functions, *module.global_variables):
        if not each.is_declaration and not each.name.startswith(ENTRY):
            each.linkage = "internal"
    machine = target_machine()
    options = llvm.create_pipeline_tuning_options(3)
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    outside = {
        each.name
        for each in (*module.functions, *module.global_variables)
        if each.is_declaration and not each.name.startswith("llvm.")
    }
    if outside - _OUTSIDE:
        raise RuntimeError(f"it needs {', '.join(sorted(outside - _OUTSIDE))}")
    return bytes(machine.emit_object(module))


def source_of(name: str) -> Any:
    """Return the numba function of a kernel."""
    return next(getattr(module, name) for module in _HOMES if hasattr(module, name))


def _compile(name: str, signature: Signature) -> tuple[str, str]:
    """Return LLVM's text of a kernel with all that it calls, and of its entry."""
    flags = compiler.Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.error_model = compiled.OPTIONS["error_model"]
    typing, target = cpu_target.typing_context, cpu_target.target_context
    function = source_of(name).py_func
    takes = tuple(_type(kind) for kind in signature.takes)
    with global_compiler_lock:
        typing.refresh()
        target.refresh()
        made = compiler.compile_extra(typing, target, function, takes, None, flags, {})
    gives = [_SCALARS[kind] for kind in signature.gives]
    returns = types.Tuple.from_types(gives) if len(gives) > 1 else [*gives, types.none][0]
    if made.signature.return_type != returns:
        raise RuntimeError(f"{name} returns {made.signature.return_type}, not {returns}")
    convention = target.call_conv.get_function_type(made.fndesc.restype, made.fndesc.argtypes)
    entry = _entry(name, made.fndesc.llvm_func_name, convention, signature)
    return made.library.get_llvm_str(), entry


def _type(kind: Kind) -> Any:
    if isinstance(kind, tuple):
        return types.Tuple.from_types([_type(each) for each in kind])
    if len(kind) == 1:
        return _SCALARS[kind]
    element = types.bool_ if kind[0] == "F" else getattr(types, ELEMENTS[kind[0]])
    return types.Array(element, int(kind[1]), "C")


def _entry(name: str, inner: str, convention: Any, signature: Signature) -> str:
    """Return LLVM's text of a function that takes a block of words, and calls a kernel.

    A kernel takes where its result belongs and where an exception does, and then, of an array: who
    counts its references, its owner, how many elements, the size of one, the address, dimensions
    and strides.
    """
    module = ir.Module(ENTRY + name)
    module.triple = llvm.get_process_triple()
    callee = ir.Function(module, convention, inner)
    block_type = ir.FunctionType(ir.IntType(32), [_WORD.as_pointer()])
    entry = ir.Function(module, block_type, ENTRY + name)
    builder = ir.IRBuilder(entry.append_basic_block())
    read = 0

    def next_word() -> Any:
        nonlocal read
        read += 1
        return builder.load(builder.gep(entry.args[0], [_WORD(read - 1)]))

    values: list[Any] = []

    def add(kind: Kind) -> None:
        if isinstance(kind, tuple):
            for each in kind:
                add(each)
        elif len(kind) == 1:
            values.append(next_word())
        else:
            address, shape = next_word(), [next_word() for _ in range(int(kind[1]))]
            size = _WORD(8 if kind[0] in _SCALARS else 1)
            strides = [size]
            for length in shape[:0:-1]:
                strides.insert(0, builder.mul(strides[0], length))
            count = builder.udiv(builder.mul(strides[0], shape[0]), size)
            values.extend([None, None, count, size, address, *shape, *strides])

    for kind in signature.takes:
        add(kind)
    kinds = convention.args[2:]
    if len(kinds) != len(values):
        raise RuntimeError(f"{name} takes {len(kinds)} values, not {len(values)}")
    for place, (kind, value) in enumerate(zip(kinds, values, strict=True)):
        if isinstance(kind, ir.PointerType):
            values[place] = kind(None) if value is None else builder.inttoptr(value, kind)
        elif value is None or kind != _WORD:
            raise RuntimeError(f"{name} takes {kind}")
    result = builder.gep(entry.args[0], [_WORD(read)])
    result = builder.bitcast(result, convention.args[0])
    fault = builder.alloca(convention.args[1].pointee)
    builder.ret(builder.call(callee, [result, fault, *values]))
    return str(module)
