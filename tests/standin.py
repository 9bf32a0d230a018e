"""The stand-in device: numpy with the behaviour of cupy, to find GPU errors without a GPU.

    backend.use(standin)                # then backend.xp.zeros(3) is a standin.ndarray

A device array wraps a numpy array, which is private to this file. Like a cupy array, it is not
converted to a numpy array implicitly, does not mix with numpy arrays or lists, and is not hashable.
Where numpy returns a scalar, the result is a 0-d array: sums and elements are 0-d arrays, and an
element is a view. Functions that cupy 14 lacks are missing.

The stand-in is stricter than cupy in two points. cupy accepts numpy's functions of a device array,
such as np.exp, and copies lists and numpy arrays that are used as indices to the device; the
stand-in refuses both.

Copies between host and device are counted in `transfers`, and are errors in `forbid_transfers()`.
"""

import contextlib
import operator

import numpy as np

# Names of numpy that cupy 14 lacks and that a GAN library could use.
MISSING = set("""
    True_ False_ object_ longdouble float128 clongdouble matrix block bmat insert unstack geomspace
    vecdot vecmat matvec einsum_path errstate seterr geterr nditer ndenumerate frompyfunc spacing
    nanpercentile nanquantile histogram_bin_edges polyder polyint polydiv memmap
    linalg.multi_dot linalg.vector_norm linalg.matrix_norm linalg.vecdot linalg.outer
    linalg.tensordot linalg.trace linalg.diagonal linalg.svdvals
    """.split())

# Keywords that cupy 14 lacks: of all functions except the ufuncs and copyto, and of single ones.
MISSING_KEYWORDS = {"where", "initial", "correction", "device", "stable", "hermitian", "rtol"}
MISSING_KEYWORDS_OF = {
    "clip": {"min", "max"}, "count_nonzero": {"keepdims"}, "take": {"mode"}, "reshape": {"shape"},
    "percentile": {"weights"}, "quantile": {"weights"}, "std": {"mean"}, "var": {"mean"}}

# {method: the ufuncs for which cupy has it}
UFUNC_METHODS = {
    "reduce": {"add", "multiply"}, "accumulate": {"add", "multiply"}, "reduceat": {"add"},
    "at": {"add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"}}

# {function: (i, j)}: its positional arguments i, ..., j - 1 may be arrays. The default is (0, 1).
# The other arguments are shapes, axes and the like, which must not contain an array.
OPERANDS = {
    **dict.fromkeys("zeros ones empty eye identity tri indices broadcast_shapes".split(), (0, 0)),
    **dict.fromkeys("dot vdot inner outer kron tensordot cross take take_along_axis searchsorted "
                    "digitize allclose isclose array_equal array_equiv append isin copyto convolve "
                    "correlate shares_memory may_share_memory roll percentile quantile polyval cov "
                    "fill fill_diagonal solve lstsq compress extract choose linspace "
                    "reduceat".split(), (0, 2)),
    **dict.fromkeys("where clip interp arange put put_along_axis putmask place".split(), (0, 3)),
    **dict.fromkeys("broadcast_arrays meshgrid atleast_1d atleast_2d atleast_3d".split(), (0, 99)),
    "full": (1, 2), "full_like": (0, 2), "einsum": (1, 99)}

# Functions that take dtypes or arrays and use only the dtypes.
DTYPE_FUNCTIONS = {"result_type", "can_cast", "promote_types", "isdtype", "issubdtype"}

# Functions whose first argument is a list of arrays.
LIST_FUNCTIONS = set("concatenate concat stack vstack hstack dstack column_stack".split())

# Functions that return a bool or an int in numpy and a 0-d array in cupy.
RETURN_SCALARS = {"allclose", "array_equal", "array_equiv", "count_nonzero"}

# Functions whose result has a shape that depends on values, for which cupy copies a number to the
# host.
VALUE_DEPENDENT_SHAPES = {"nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress"}

# Reductions, which numpy allows over axis 0 of a 0-d array, but cupy does not.
REDUCTIONS = set("all any argmax argmin max mean min prod std sum var".split())

# Functions of cupy that copy to the host without asnumpy.
NOT_IMITATED = set("save savez savez_compressed savetxt array_repr array_str array2string".split())


class Transfers:
    """The number of copies in each direction since the last reset()."""

    def __init__(self):
        self.forbidden = False
        self.reset()

    def reset(self):
        """Set both counts to 0."""
        self.to_host = self.to_device = 0

    def count_to_host(self):
        """Count a copy to the host. Raises RuntimeError in forbid_transfers()."""
        if self.forbidden:
            raise RuntimeError("a copy from the device to the host where none is allowed")
        self.to_host += 1

    def count_to_device(self):
        """Count a copy to the device. Raises RuntimeError in forbid_transfers()."""
        if self.forbidden:
            raise RuntimeError("a copy from the host to the device where none is allowed")
        self.to_device += 1


transfers = Transfers()


@contextlib.contextmanager
def forbid_transfers():
    """Raise RuntimeError for every copy between host and device inside the context."""
    before, transfers.forbidden = transfers.forbidden, True
    try:
        yield
    finally:
        transfers.forbidden = before


# Conversions between device arrays and numpy arrays

_SCALARS = (int, float, complex, np.generic)


def _wrap(value):
    """Return the result of a numpy function with its arrays and scalars as device arrays."""
    kind = type(value)
    if kind is np.ndarray:
        array = _new(ndarray)
        array._host = value
        return array
    if isinstance(value, np.generic):
        return _wrap(np.asarray(value))
    if isinstance(value, tuple):
        return tuple([_wrap(v) for v in value])
    if kind is list:
        return [_wrap(v) for v in value]
    return value


def _operand(x):
    """Return numpy's argument for the operand x, which is a device array or a number."""
    if type(x) is ndarray:
        return x._host
    if x is None or isinstance(x, _SCALARS):
        return x
    raise _unsupported(x)


def _check_no_array(x):
    """Return x, which is a shape, an axis, a dtype or the like. Raises TypeError for an array."""
    if isinstance(x, (ndarray, np.ndarray)):
        raise _unsupported(x)
    if isinstance(x, (tuple, list)):
        for item in x:
            _check_no_array(item)
    return x


def _keywords(keywords):
    """Return numpy's keyword arguments. Raises TypeError for an array as axis or shape."""
    return {name: value._host if type(value) is ndarray and name not in ("axis", "shape") else
            _check_no_array(value) for name, value in keywords.items()}


def _unsupported(x):
    """Return the TypeError for an argument that is not a device array."""
    return TypeError(f"Unsupported type {type(x)}: a device array was expected")


def _host_index(index):
    """Return numpy's index for the index of a device array."""
    if type(index) is tuple:
        return tuple([_host_index(i) for i in index])
    if type(index) is slice:        # bounds in an array would have to be copied to the host
        return slice(*map(_check_no_array, (index.start, index.stop, index.step)))
    if type(index) is ndarray:
        return index._host
    if index is None or index is Ellipsis or isinstance(index, (int, np.integer)):
        return index
    raise _unsupported(index)


def _has_mask(index):
    return any(type(i) is ndarray and i.dtype == bool
               for i in (index if type(index) is tuple else (index,)))


# The array. Each function below wraps an operator or a method of numpy.

def _binary(op, reflected=False):
    def method(self, other):
        if type(other) is ndarray:
            other = other._host
        elif not isinstance(other, _SCALARS):
            # cupy and NEP 13: a class that opts out of ufuncs (Tensor) has its own operators.
            if getattr(type(other), "__array_ufunc__", _operand) is None:
                return NotImplemented
            raise _unsupported(other)
        return _wrap(op(other, self._host) if reflected else op(self._host, other))
    return method


def _in_place(op):
    def method(self, other):
        op(self._host, _operand(other))
        return self
    return method


def _unary(op):
    return lambda self: _wrap(op(self._host))


def _array_property(name):
    return property(lambda self: _wrap(getattr(self._host, name)))


def _method(name):
    numpy_method = getattr(np.ndarray, name)
    last = OPERANDS.get(name, (0, 1))[1] - 1        # self is the first

    def method(self, *args, **keywords):
        if name in VALUE_DEPENDENT_SHAPES:
            transfers.count_to_host()
        if name in REDUCTIONS and self.ndim == 0:
            axis = args[0] if args else keywords.get("axis")
            if isinstance(axis, int):
                raise np.exceptions.AxisError(axis, 0)
        args = [_operand(a) if i < last else _check_no_array(a) for i, a in enumerate(args)]
        if not keywords:
            value = numpy_method(self._host, *args)
        else:
            _refuse_missing(name, keywords, MISSING_KEYWORDS)
            value = numpy_method(self._host, *args, **_keywords(keywords))
            if keywords.get("out") is not None:
                return keywords["out"]
        return self if value is self._host else _wrap(value)
    return method


class ndarray:
    """An array on the device."""

    __slots__ = ("_host", "__weakref__")
    # np.exp(x) raises TypeError; np_array + x calls __radd__, which raises TypeError.
    __array_ufunc__ = None
    __hash__ = None

    def __init__(self, *args, **keywords):
        raise TypeError("device arrays are made by zeros, empty, asarray and the like")

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. "
                        "Please use `.get()` to construct a NumPy array explicitly.")

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} of a device array")

    # Copies between host and device

    def get(self):
        """Return a copy on the host."""
        transfers.count_to_host()
        return self._host.copy()

    def set(self, host):
        """Copy an array of the host into this one."""
        transfers.count_to_device()
        self._host[...] = host

    def item(self, *index):
        """Return the element as a Python number."""
        return self.get().item(*index)

    def tolist(self):
        """Return the elements as nested lists of Python numbers."""
        return self.get().tolist()

    def tobytes(self):
        """Return the elements as bytes."""
        return self.get().tobytes()

    def __float__(self):
        return float(self.get())

    def __int__(self):
        return int(self.get())

    def __bool__(self):
        return bool(self.get())

    def __complex__(self):
        return complex(self.get())

    def __format__(self, spec):
        return format(self.get(), spec)

    def __repr__(self):
        return repr(self.get())

    # Results on the device

    def __getitem__(self, index):
        if _has_mask(index):
            transfers.count_to_host()       # of the number of entries that are True
        index = _host_index(index)
        value = self._host[index]
        if isinstance(value, np.generic):   # the result is a 0-d view of the element instead
            value = self._host[(*index, ...) if type(index) is tuple else (index, ...)]
        return _wrap(value)

    def __setitem__(self, index, value):
        self._host[_host_index(index)] = _operand(value)

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return iter([self[i] for i in range(len(self))])

    def __copy__(self):
        return _wrap(self._host.copy())

    def __deepcopy__(self, memo):
        return _wrap(self._host.copy())


_new = ndarray.__new__

for _name in "shape dtype ndim size nbytes strides flags itemsize".split():
    setattr(ndarray, _name, property(operator.attrgetter(f"_host.{_name}")))
for _name in "T mT real imag base".split():
    setattr(ndarray, _name, _array_property(_name))
for _name in """all any argmax argmin argpartition argsort astype choose clip compress conj
                conjugate copy cumprod cumsum diagonal dot fill flatten max mean min nonzero
                partition prod put ravel repeat reshape round searchsorted sort squeeze std sum
                swapaxes take trace transpose var view""".split():
    setattr(ndarray, _name, _method(_name))
for _name in "neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in "lt le eq ne gt ge".split():
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name)))
for _name in "add sub mul truediv floordiv mod pow and or xor lshift rshift matmul".split():
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, f"__{_name}__")))
    setattr(ndarray, f"__r{_name}__", _binary(getattr(operator, f"__{_name}__"), reflected=True))
    if _name != "matmul":       # cupy has no @=
        setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))
ndarray.__divmod__, ndarray.__rdivmod__ = _binary(divmod), _binary(divmod, reflected=True)


# The functions

def _refuse_missing(name, keywords, missing):
    for keyword in keywords:
        if keyword in missing:
            raise TypeError(f"cupy's {name} takes no keyword {keyword!r}")


def _function(name, function):
    """Return the device function for a numpy function that is not a ufunc."""
    first, last = OPERANDS.get(name, (0, 1))
    missing = MISSING_KEYWORDS | MISSING_KEYWORDS_OF.get(name, set())
    if name == "copyto":
        missing = missing - {"where"}

    def call(*args, **keywords):
        if name in VALUE_DEPENDENT_SHAPES or name == "where" and len(args) == 1:
            transfers.count_to_host()
        if name in DTYPE_FUNCTIONS:
            return function(*[a._host if type(a) is ndarray else _check_no_array(a) for a in args])
        if name in LIST_FUNCTIONS:
            arrays, *args = args
            if len(arrays) > 8:
                transfers.count_to_device()     # of the addresses of the arrays
            if not all([type(a) is ndarray for a in arrays]):
                raise TypeError(f"{name} of something other than device arrays")
            args = [[a._host for a in arrays], *map(_check_no_array, args)]
        else:
            args = [_operand(a) if first <= i < last else _check_no_array(a)
                    for i, a in enumerate(args)]
        if not keywords:
            value = function(*args)
        else:
            _refuse_missing(name, keywords, missing)
            value = function(*args, **_keywords(keywords))
            if keywords.get("out") is not None:
                return keywords["out"]
        return _wrap(np.asarray(value) if name in RETURN_SCALARS else value)
    return call


def _ufunc(name, ufunc):
    """Return the device function for a ufunc, with those of its methods that cupy has."""
    def wrapped(function):
        def call(*args, **keywords):
            args = [a._host if type(a) is ndarray else _operand(a) for a in args]
            if not keywords:
                return _wrap(function(*args))
            value = function(*args, **_keywords(keywords))
            return _wrap(value) if keywords.get("out") is None else keywords["out"]
        return call

    def at(array, index, *operand):
        ufunc.at(_operand(array), _host_index(index), *map(_operand, operand))

    call = wrapped(ufunc)
    call.__name__ = name
    if ufunc.nin == 2:
        call.outer = wrapped(ufunc.outer)
    if name in UFUNC_METHODS["at"]:
        call.at = at
    for method in "reduce", "accumulate", "reduceat":
        if name in UFUNC_METHODS[method]:
            setattr(call, method, _function(method, getattr(ufunc, method)))
    return call


class _Namespace:
    """A numpy module with device functions, which are made on first access."""

    def __init__(self, module):
        self._module = module
        self._path = module.__name__.removeprefix("numpy").lstrip(".")

    def __getattr__(self, name):
        path = f"{self._path}.{name}".lstrip(".")
        if path == "random":
            raise AttributeError("random numbers come from tinygan.random.Random, which draws the "
                                 "same on every backend")
        if path in MISSING:
            raise AttributeError(f"cupy 14 has no {path}")
        if name.startswith("_") or path in NOT_IMITATED:
            raise AttributeError(f"the stand-in does not imitate {path}")
        value = self._imitated(name, path, getattr(self._module, name))
        setattr(self, name, value)
        return value

    def _imitated(self, name, path, value):
        if path in ("lib", "lib.stride_tricks", "linalg", "fft"):
            return _Namespace(value)
        if isinstance(value, np.ufunc):
            return _ufunc(name, value)
        if value is None or isinstance(value, float):
            return value
        if isinstance(value, type):
            if issubclass(value, (np.generic, np.dtype, np.finfo, np.iinfo, np.ndindex)):
                return value                    # cupy's dtypes are numpy's
        elif callable(value):
            return _function(name, value)
        raise AttributeError(f"the stand-in does not imitate {path}")


_numpy = _Namespace(np)


def __getattr__(name):
    return getattr(_numpy, name)


# Functions that copy between host and device

def asnumpy(array):
    """Return a copy of `array` on the host."""
    return array.get() if type(array) is ndarray else np.asarray(array)


def array(a, dtype=None, copy=True, order="K", ndmin=0):
    """Return a device array, given an array, a number, or nested lists of one of them."""
    if type(a) is ndarray:
        host = a._host
    elif isinstance(a, (list, tuple)) and _holds_device_arrays(a):
        host = _stacked(a)
    else:
        transfers.count_to_device()
        host, copy = a, True
    host = np.array(host, dtype=dtype, copy=copy or None, order=order, ndmin=ndmin)
    if host.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    return a if type(a) is ndarray and host is a._host else _wrap(host)


def asarray(a, dtype=None, order="K", copy=None):
    """Return `a` on the device; a device array is returned itself."""
    return array(a, dtype, copy, order)


asanyarray = asarray


def _holds_device_arrays(a):
    return any([type(item) is ndarray or isinstance(item, (list, tuple))
                and _holds_device_arrays(item) for item in a])


def _stacked(a):
    if type(a) is ndarray:
        return a._host
    if isinstance(a, (list, tuple)):
        return np.stack([_stacked(item) for item in a])
    raise _unsupported(a)
