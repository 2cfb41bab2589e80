"""A layer with 8-bit weights and activations of 8 bits or float32: floats or codes in, floats or codes out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from pycomp._floats import bfloat16, narrowed
from pycomp._validate import (
    BATCH_NDIM,
    FLOAT32,
    activation_code,
    as_array,
    as_matrix,
    contiguous,
    delivered,
    dtype_name,
    flag,
    fresh,
    given,
    of_shape,
    optional_vector,
    plain,
    result,
    rows,
)
from pycomp.kernels import dispatch
from pycomp.kernels.dispatch import Holding
from pycomp.kernels.entry import NanError

from .observer import finite
from .product import PackedInt8Matrix, fill_long_sums, pack_named
from .schemes import check_axis
from .tensor import (
    DTYPES,
    INT8,
    UINT8,
    QuantizedTensor,
    as_scale,
    as_zero_point,
    code_dtype,
    middle,
    quantize,
)
from .weight_only import PackedGroupedMatrix, pack_groups_named

OUTPUTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "int8": "s8", "uint8": "u8"}
"""What a product may end in, as kernels are named."""
WEIGHT_ONLY = "gemm_f32s8"
Codes = tuple[NDArray[Any], NDArray[np.float32], NDArray[np.int32]]


class _Products(dict[str, Holding]):
    """Kernels of a layer by name, which hold what is the same in every call: of one bias, since setting another makes
    new ones. A deep copy or a pickle of a layer makes its own."""

    def __reduce__(self) -> Any:
        return _Products, ()


class Linear:
    """``y = activation(x @ W.T + bias)`` with weights as 8-bit codes, activations too (W8A8) or not (W8A32).

    Parameters
    ----------
    weight : array of float32, QuantizedTensor, PackedInt8Matrix or PackedGroupedMatrix, shape (N, K)
        Floats are quantized symmetrically, one scale an output, or as ``group_size`` says.
    bias : array of float32, shape (N,), optional
        Copied.
    activation : None, "identity", "relu", "gelu", "gelu_tanh" or "silu"
        As :func:`pycomp.dense.activate` computes it.
    input_scale : number, optional
        Static quantization of x by this scale, as :class:`MinMax` finds it; None: dynamic, each row over its own range.
    input_zero_point : integer, optional
        Zero point of static codes; None is the middle of the range.
    input_dtype : "int8" or "uint8", optional
        Dtype of static codes, by name, as a type or as an np.dtype; None is int8. Dynamic ones are uint8.
    output_dtype : "float32", "float16", "bfloat16", "int8" or "uint8"
        Of y, given likewise. Codes need ``output_scale``; bfloat16 needs the package ml_dtypes.
    output_scale : number, optional
    output_zero_point : integer, optional
        None is the middle of the range.
    weight_only : bool
        Multiply float32 activations by the weights that the codes stand for (W8A32): nothing is lost of x, and codes
        may have scales for groups of inputs. A quarter of the memory of float weights, which is what limits few rows.
        Takes no input quantization. True with a PackedGroupedMatrix.
    group_size : int, optional
        Inputs that share a scale, where ``weight`` is floats and ``weight_only`` is set; it must divide K. None: all.

    Attributes
    ----------
    weight : PackedInt8Matrix or, for weights alone, PackedGroupedMatrix
        Cannot be set: other weights are another layer.
    bias : array of float32, shape (N,), or None
        The layer's own, read-only. Another may be set, as by :func:`bias_correction`, which is checked and copied.

    Raises
    ------
    TypeError
        If an array has the wrong dtype, or what should be a dtype is none.
    ValueError
        If weights hold NaN or infinity, a scale is not finite or below 2⁻¹²⁶, a zero point is out of range, or shapes
        do not fit.

    Notes
    -----
    With codes a, scale sx and zero point za of a row, and w, sw, zw of an output:
    ``y = activation(fma(float(Σ (a - za)(w - zw)), sx·sw, bias))``, the sum exact, no bias being +0. Relative to the
    quantized operands the error is at most ``3u·|sum·sx·sw| + u·|y|``, ``u = 2⁻²⁴``, and ``2⁻¹⁵⁰·(|sum| + 1)`` more
    where sx·sw or y is below 2⁻¹²⁶; where sx·sw is beyond float32, outputs are infinite or NaN. A residual is added
    before the activation, with one more rounding; gelu and silu make the error 1.13 times as large and add 1 ulp. Other
    dtypes are that float32 result rounded once more, half to even; codes are
    ``saturate(rint(y / output_scale) + output_zero_point)``, the bits of :func:`quantize`.

    Weight-only: per group of inputs ascending ``acc = fma(x, float(w - zw), acc)`` from +0, then
    ``sum = fma(acc, sw, sum)`` from +0; then bias, residual and activation. With groups of g inputs the sum is within
    ``γ(g + K/g + 1)·Σ|x·(w - zw)·sw|`` of the exact one.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Linear(np.array([[127, 0], [0, -127]], np.float32), activation="relu")
    >>> layer(np.array([[255, 51]], np.float32))
    array([[32385.,     0.]], dtype=float32)
    >>> Linear(np.array([[127, 0, 3, -3]], np.float32), weight_only=True, group_size=2)(np.ones((1, 4), np.float32))
    array([[127.]], dtype=float32)

    Layers of codes, one after the other:

    >>> w = np.array([[127, 0], [0, -127]], np.float32)
    >>> first = Linear(w, output_dtype="int8", output_scale=0.5)
    >>> x = first(np.array([[0.25, -0.0625]], np.float32))
    >>> x
    array([[64, 16]], dtype=int8)
    >>> second = Linear(w)
    >>> second
    Linear(in_features=2, out_features=2, mode='dynamic', output_dtype='float32')
    >>> second(QuantizedTensor(x, scale=0.5, zero_point=0))
    array([[ 4064., -1016.]], dtype=float32)
    """

    __slots__ = ("_activation", "_bias", "_input_grid", "_output", "_output_dtype", "_output_grid", "_products",
                 "_weight")

    def __init__(
        self,
        weight: Any,
        bias: Any = None,
        *,
        activation: str | None = None,
        input_scale: Any = None,
        input_zero_point: Any = None,
        input_dtype: DTypeLike | None = None,
        output_dtype: DTypeLike = "float32",
        output_scale: Any = None,
        output_zero_point: Any = None,
        weight_only: bool = False,
        group_size: int | None = None,
    ) -> None:
        output = dtype_name(output_dtype, "output_dtype", OUTPUTS)
        if flag(weight_only, "weight_only") or isinstance(weight, PackedGroupedMatrix):
            if not input_scale is input_zero_point is input_dtype is None:
                raise ValueError("weight_only takes no input_scale, input_zero_point or input_dtype")
            self._weight: PackedInt8Matrix | PackedGroupedMatrix = _pack_weight_only(weight, group_size)
        else:
            self._weight = _pack(weight, group_size)
        self.bias = bias
        self._activation = activation_code(activation)
        kind = INT8 if input_dtype is None else code_dtype(input_dtype, "input_dtype")
        self._input_grid: tuple[Any, ...] = ()  # as kernels take it: scale, zero point, whether codes are signed
        if input_scale is not None:
            zero = middle(kind) if input_zero_point is None else input_zero_point
            self._input_grid = (as_scale(input_scale, "input_scale", None)[()],
                                int(as_zero_point(zero, "input_zero_point", None, kind)), int(kind == INT8))
        elif input_zero_point is not None or input_dtype is not None:
            name = "input_dtype" if input_zero_point is None else "input_zero_point"
            raise ValueError(f"{name} is given without input_scale")
        self._output = OUTPUTS[output]
        self._output_dtype = bfloat16() if output == "bfloat16" else np.dtype(output)
        self._output_grid: tuple[Any, ...] = ()
        if self._output in ("s8", "u8"):
            if output_scale is None:
                raise ValueError(f"output_dtype is {output!r}, which needs output_scale")
            zero = middle(self._output_dtype) if output_zero_point is None else output_zero_point
            self._output_grid = (as_scale(output_scale, "output_scale", None)[()],
                                 int(as_zero_point(zero, "output_zero_point", None, self._output_dtype)))
        elif output_scale is not None or output_zero_point is not None:
            raise ValueError(f"output_scale or output_zero_point is given, but output_dtype is {output!r}")

    @property
    def weight(self) -> PackedInt8Matrix | PackedGroupedMatrix:
        """The packed weights."""
        return self._weight

    @property
    def bias(self) -> NDArray[np.float32] | None:
        """What is added to each output; None for nothing. It is checked and copied where it is set."""
        return None if self._bias is None else given(self._bias.view())  # a copy of the layer has the same array

    @bias.setter
    def bias(self, bias: Any) -> None:
        bias = optional_vector(bias, "bias", self._weight.out_features)
        self._bias: NDArray[np.float32] | None = None if bias is None else bias.copy()
        self._products = _Products()

    def _product(self, kernel: str) -> Holding:
        """A kernel that takes what a call brings: x in its form, the residual and y."""
        products = self._products  # those of this bias: another thread may set one meanwhile
        made = products.get(kernel)
        if made is None:
            names = ("w", "scale", "zero") if kernel == WEIGHT_ONLY else ("w", "sums", "w_scale", "w_zero")
            held = dict(zip(names, self._weight._held(), strict=True), bias=self._bias, activation=self._activation)
            if self._output_grid and kernel != WEIGHT_ONLY:
                held["y_scale"], held["y_zero"] = self._output_grid
            if kernel.startswith("linear_static"):
                held["x_scale"], held["x_zero"], held["is_signed"] = self._input_grid
            made = products[kernel] = Holding(kernel, **held)
        return made

    def __call__(self, x: Any, *, residual: Any = None, out: Any = None) -> NDArray[Any]:
        """Run the layer.

        Parameters
        ----------
        x : array of float32 or QuantizedTensor, shape (..., K)
            Codes are multiplied as they are, by their own scales and zero points, whatever the layer's ``input_scale``
            and dtype: what a layer before it gave as int8 or uint8. They have one scale, one an index of the first of
            several axes (``axis=0``) or one a row (``axis=-1, group_size=K``). Not with ``weight_only``.
        residual : array of float32, shape (..., N), optional
            Added before the activation.
        out : array of the output dtype, shape (..., N), optional
            Any strides. Other than contiguous rows cost a copy, of more than two dimensions other than C order. So do
            codes: if they would have to express NaN, it is as it was.

        Returns
        -------
        array of the output dtype, shape (..., N)

        Raises
        ------
        TypeError
            If ``x`` or ``residual`` is not float32, or ``x`` is codes and the layer takes floats alone.
        ValueError
            If shapes do not fit, codes have scales of another kind, ``out`` cannot take the result, or where codes
            would have to express NaN.

        Notes
        -----
        Dynamic: a row that holds NaN or infinity has NaN outputs, other rows are not affected. Static: infinity and
        what else is out of range saturates. Workspace: codes of x, a byte an element, 12 bytes a row, and at most 1.1
        MB a thread, of many rows where AVX2 is the best level 17 MB; with ``weight_only`` and another dtype than
        float32, y in float32 and once more. Where a sum of a batch is outside int32, which takes K above 33025, all are
        made again in int64, with 20 bytes an output and a copy of the weights of 33024 inputs at a time; rows whose
        sums fit have the bits that they have without such a row.
        """
        w: Any = self._weight
        grouped = isinstance(w, PackedGroupedMatrix)
        coded = isinstance(x, QuantizedTensor)
        if coded:
            _check_codes(x, grouped)
        else:
            x = _floats(x, "x", BATCH_NDIM, grouped)
        if x.shape[-1] != w.in_features:
            raise ValueError(f"x has {x.shape[-1]} columns, weight has {w.in_features}")
        shape = (*x.shape[:-1], w.out_features)
        if residual is not None:
            residual = of_shape(residual, "residual", FLOAT32, shape)
        made = result(out, shape, self._output_dtype, (x, residual, w, self._bias), late=bool(self._output_grid))
        residual, y = None if residual is None else as_matrix(contiguous(residual)), as_matrix(made)
        fill = self._fill_from_floats if grouped else self._fill_from_codes
        try:
            fill(x if coded else rows(as_matrix(x)), residual, y)
        except NanError:
            if self._input_grid and not coded and np.isnan(x).any():
                raise ValueError("x holds NaN, which static codes cannot express") from None
            raise ValueError("an output is NaN, which codes cannot express: is x finite, bias, residual, "
                             "and the product of scales?") from None
        return delivered(made, out)

    def _fill_from_floats(
        self, x: NDArray[np.float32], residual: NDArray[np.float32] | None, y: NDArray[Any]
    ) -> None:
        """The product of weights alone, in float32 and from there what the layer gives."""
        values = y if y.dtype == FLOAT32 else fresh(y.shape, FLOAT32)
        self._product(WEIGHT_ONLY)(x, residual, values)
        if values is not y:
            with dispatch.aside():
                self._end(values, y)

    def _fill_from_codes(
        self, x: NDArray[np.float32] | QuantizedTensor, residual: NDArray[np.float32] | None, y: NDArray[Any]
    ) -> None:
        """The product of codes: those of x, or of its floats."""
        to = y.view(np.uint16) if self._output == "bf16" else y
        try:
            if isinstance(x, QuantizedTensor):
                codes, scale, zero = self._codes(x)
                product = "s8s8" if codes.dtype == INT8 else "u8s8"
                self._product(f"gemm_{product}_{self._output}")(codes, scale, zero, residual, to)
            else:
                self._product(f"linear_{'static' if self._input_grid else 'dynamic'}_{self._output}")(x, residual, to)
        except OverflowError:  # a sum is outside int32
            self._fill_from_long_sums(*self._codes(x), residual, y)

    def _fill_from_long_sums(
        self, codes: NDArray[Any], scale: NDArray[np.float32], zero: NDArray[np.int32],
        residual: NDArray[np.float32] | None, y: NDArray[Any],
    ) -> None:
        """What the kernel makes of its int32 sums, from sums in int64: the same operations and bits, but that a bias of
        -0 where scales underflow ends as +0."""
        w: Any = self._weight
        m, n = y.shape
        sums, values = np.empty((m, n), np.int64), np.empty((m, n), np.float32)
        fill_long_sums(codes, w, zero, w.zero_point, sums)
        # fma(float(sum), scale, bias), which NumPy lacks, is the chain of bias·1 + scale·sum: two columns, of which a
        # sampled product takes the diagonal.
        one, other = np.zeros((n, 2), np.float32), np.ones((n, 2), np.float32)
        one[:, 0] = 0 if self._bias is None else self._bias
        diagonal = np.arange(n, dtype=np.int32), np.arange(n + 1, dtype=np.int64)
        with np.errstate(all="ignore"), dispatch.aside():
            for i in range(m):
                one[:, 1], other[:, 1] = scale[i] * w.scale, sums[i]
                dispatch.sddmm_csr_f32(one, other, *diagonal, values[i])
            if residual is not None:
                values += residual
            activated = np.empty_like(values)
            dispatch.activate_f32(values.reshape(-1), self._activation, activated.reshape(-1))
            self._end(activated, y)

    def _end(self, values: NDArray[np.float32], y: NDArray[Any]) -> None:
        """Results in float32 as the layer gives them; codes to y in C order."""
        if not self._output_grid:
            y[...] = narrowed(values, y.dtype)
            return
        y_scale, y_zero = self._output_grid
        kernel = dispatch.quantize_s8 if y.dtype == INT8 else dispatch.quantize_u8
        kernel(values, np.full(len(y), y_scale), np.full(len(y), y_zero, np.int32), y)

    def _codes(self, x: NDArray[np.float32] | QuantizedTensor) -> Codes:
        """Codes of activations, and scale and zero point of each row. (The layer's kernel makes those of floats; they
        are made here again where its sums must be.)"""
        if isinstance(x, QuantizedTensor):
            data, x_scale, x_zero = x._held()
            codes: NDArray[Any] = rows(as_matrix(data))
            repeats = len(codes) // max(x_scale.size, 1)
            return codes, np.repeat(x_scale, repeats), np.repeat(x_zero, repeats)
        m = x.shape[0]
        if not self._input_grid:
            codes = np.empty(x.shape, np.uint8)
            scale, zero = np.empty(m, np.float32), np.empty(m, np.int32)
            dispatch.quantize_rows_u8(x, codes, scale[:, None], zero[:, None], np.empty((m, 1), np.int32))
            return codes, scale, zero
        x_scale, x_zero, is_signed = self._input_grid
        scale, zero = np.full(m, x_scale), np.full(m, x_zero, np.int32)
        codes = np.empty(x.shape, INT8 if is_signed else UINT8)
        (dispatch.quantize_s8 if is_signed else dispatch.quantize_u8)(x, scale, zero, codes)
        return codes, scale, zero

    def __repr__(self) -> str:
        n, k = self._weight.shape
        mode = ("weight_only" if isinstance(self._weight, PackedGroupedMatrix)
                else "static" if self._input_grid else "dynamic")
        return (f"Linear(in_features={k}, out_features={n}, mode={mode!r}, "
                f"output_dtype={self._output_dtype.name!r})")


def _floats(a: Any, name: str, ndim: int | tuple[int, ...], floats_alone: bool = False) -> NDArray[np.float32]:
    if type(a) is not np.ndarray:
        a = plain(a, name, "float32")
    try:
        return as_array(a, name, FLOAT32, ndim)
    except TypeError:
        if a.dtype in DTYPES.values():  # astype, which as_array advises, would lose their scale
            axis, end = ", axis=0" if name == "weight" else "", ".dequantize()" if floats_alone else ""
            raise TypeError(f"{name} has dtype {a.dtype}, expected float32, or codes with their scale: "
                            f"QuantizedTensor({name}, scale, zero_point{axis}){end}") from None
        raise


def _check_codes(x: QuantizedTensor, grouped: bool) -> None:
    if grouped:
        raise TypeError("x is a QuantizedTensor, but a weight_only layer multiplies float32; pass x.dequantize()")
    data = x.data
    as_array(data, "x", data.dtype, BATCH_NDIM)
    last, k = data.ndim - 1, data.shape[-1]
    by_row, by_first = (last, k), (0, None) if last else (None, None)
    if (x.axis, x.group_size) not in ((None, None), by_first, by_row):
        raise ValueError(f"x has shape {x.shape}, axis {x.axis} and group_size {x.group_size}, expected one scale, "
                         f"one an index of the first of several axes (axis 0) or one a row (group_size {k})")


def _quantized(weight: Any, group_size: int | None) -> QuantizedTensor:
    if isinstance(weight, QuantizedTensor):
        if group_size is not None:
            raise ValueError(f"group_size is {group_size}, but weight is quantized already")
        return weight
    weight = _floats(weight, "weight", 2)
    if group_size is not None:
        check_axis(1, group_size, weight.shape, "weight")
    finite(weight, None, "weight")
    return quantize(weight, axis=0) if group_size is None else quantize(weight, axis=1, group_size=group_size)


def _pack(weight: Any, group_size: int | None) -> PackedInt8Matrix:
    if group_size is not None or getattr(weight, "group_size", None) is not None:
        raise ValueError("weight has scales for groups of inputs, which only weight_only=True can multiply")
    return weight if isinstance(weight, PackedInt8Matrix) else pack_named(_quantized(weight, None), "weight")


def _pack_weight_only(weight: Any, group_size: int | None) -> PackedGroupedMatrix:
    if isinstance(weight, PackedInt8Matrix):
        raise ValueError("weight is a PackedInt8Matrix, which is laid out for 8-bit activations; "
                         "weight_only takes floats, a QuantizedTensor or a PackedGroupedMatrix")
    if isinstance(weight, PackedGroupedMatrix):
        if group_size is not None:
            raise ValueError(f"group_size is {group_size}, but weight is quantized already")
        return weight
    return pack_groups_named(_quantized(weight, group_size), "weight")
