"""The stand-in device: numpy that behaves like cupy, so that a machine without a GPU can see what
would go wrong on one.

    backend.use(standin)                # then backend.xp.zeros(3) is a standin.ndarray

A device array wraps a numpy array that nothing outside this file gets to see. Like cupy's, it does
not turn into a numpy array by itself, does not mix with numpy arrays or lists, is not hashable, and
stays an array where numpy would hand back a scalar: sums and elements are 0-d arrays, elements are
views. What cupy 14 lacks is missing here too. In one thing it is stricter than cupy: numpy's own
functions (np.exp of a device array), which cupy takes over, are refused, as are lists and numpy
arrays as indices, which cupy copies over.

Copies between host and device are counted in `transfers`, and are errors in `forbid_transfers()`.
"""

import contextlib
import operator

import numpy as np

# Of numpy's names those that cupy 14 lacks and a GAN library could reach for.
MISSING = set("""
    True_ False_ object_ longdouble float128 clongdouble matrix block bmat insert unstack geomspace
    vecdot vecmat matvec einsum_path errstate seterr geterr nditer ndenumerate frompyfunc spacing
    nanpercentile nanquantile histogram_bin_edges polyder polyint polydiv memmap
    linalg.multi_dot linalg.vector_norm linalg.matrix_norm linalg.vecdot linalg.outer
    linalg.tensordot linalg.trace linalg.diagonal linalg.svdvals
    """.split())

# Likewise keywords, of every function but the ufuncs and copyto, and of single functions.
MISSING_KEYWORDS = {"where", "initial", "correction", "device", "stable", "hermitian", "rtol"}
MISSING_KEYWORDS_OF = {
    "clip": {"min", "max"}, "count_nonzero": {"keepdims"}, "take": {"mode"}, "reshape": {"shape"},
    "percentile": {"weights"}, "quantile": {"weights"}, "std": {"mean"}, "var": {"mean"}}

# The ufuncs whose methods cupy has.
UFUNC_METHODS = {
    "reduce": {"add", "multiply"}, "accumulate": {"add", "multiply"}, "reduceat": {"add"},
    "at": {"add", "subtract", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor"}}

# Which positional arguments are operands, from the first to before the last number: (0, 1) where
# it is not said. The others are shapes, axes and the like, which no array may be part of.
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

# These take dtypes or arrays, and look at nothing but the dtype.
OF_DTYPES = {"result_type", "can_cast", "promote_types", "isdtype", "issubdtype"}

# The functions whose first argument is a list of arrays.
OF_LISTS = set("concatenate concat stack vstack hstack dstack column_stack".split())

# numpy answers these with Python's bool or int, cupy with a 0-d array.
ANSWERS = {"allclose", "array_equal", "array_equiv", "count_nonzero"}

# The shape of these results depends on values, so that cupy reads a number back.
SHAPED_BY_VALUES = {"nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress"}

# cupy has these, but they are ways around asnumpy.
NOT_IMITATED = set("save savez savez_compressed savetxt array_repr array_str array2string".split())


class Transfers:
    """How many copies were made in each direction since the last reset()."""

    def __init__(self):
        self.forbidden = False
        self.reset()

    def reset(self):
        self.to_host = self.to_device = 0

    def count_to_host(self):
        if self.forbidden:
            raise RuntimeError("a copy from the device to the host, where none is allowed")
        self.to_host += 1

    def count_to_device(self):
        if self.forbidden:
            raise RuntimeError("a copy from the host to the device, where none is allowed")
        self.to_device += 1


transfers = Transfers()


@contextlib.contextmanager
def forbid_transfers():
    """Context in which every copy between host and device raises RuntimeError."""
    before, transfers.forbidden = transfers.forbidden, True
    try:
        yield
    finally:
        transfers.forbidden = before


# From device arrays to numpy's and back.

_SCALARS = (int, float, complex, np.generic)


def _wrap(value):
    """The result `value` of a numpy function, with the arrays and numpy scalars on the device."""
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
    """What numpy is given for `x` where an array is expected: a device array or a number."""
    if type(x) is ndarray:
        return x._host
    if x is None or isinstance(x, _SCALARS):
        return x
    raise _unsupported(x)


def _plain(x):
    """`x` where no array is expected: a shape, an axis, a dtype."""
    if isinstance(x, (ndarray, np.ndarray)):
        raise _unsupported(x)
    if isinstance(x, (tuple, list)):
        for item in x:
            _plain(item)
    return x


def _keywords(keywords):
    """Keyword arguments: numpy is given device arrays' own, but never an axis or a shape."""
    return {name: value._host if type(value) is ndarray and name not in ("axis", "shape") else
            _plain(value) for name, value in keywords.items()}


def _unsupported(x):
    return TypeError(f"Unsupported type {type(x)}: a device array was expected")


def _index(index):
    if type(index) is tuple:
        return tuple([_index(i) for i in index])
    if type(index) is slice:        # array bounds would have to be read back
        return slice(_plain(index.start), _plain(index.stop), _plain(index.step))
    if type(index) is ndarray:
        return index._host
    if index is None or index is Ellipsis or isinstance(index, (int, np.integer)):
        return index
    raise _unsupported(index)


def _has_mask(index):
    return any(type(i) is ndarray and i.dtype == bool
               for i in (index if type(index) is tuple else (index,)))


# The array. Its operators and methods are numpy's, wrapped one by one.

def _binary(op, reflected=False):
    def method(self, other):
        if type(other) is ndarray:
            other = other._host
        elif not isinstance(other, _SCALARS):
            # As cupy and NEP 13 do: a class that opts out of ufuncs has its own operators (Tensor).
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
        if name in SHAPED_BY_VALUES:
            transfers.count_to_host()
        args = [_operand(a) if i < last else _plain(a) for i, a in enumerate(args)]
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
    __array_ufunc__ = None      # np.exp(x) is an error; np_array + x comes to __radd__, and is one
    __hash__ = None

    def __init__(self, *args, **keywords):
        raise TypeError("device arrays are made by zeros, empty, asarray and the like")

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. "
                        "Please use `.get()` to construct a NumPy array explicitly.")

    def __array_function__(self, function, types, args, kwargs):
        raise TypeError(f"numpy.{function.__name__} of a device array")

    # What reads numbers back to the host, or writes them to the device.

    def get(self):
        transfers.count_to_host()
        return self._host.copy()

    def set(self, host):
        transfers.count_to_device()
        self._host[...] = host

    def item(self, *index):
        return self.get().item(*index)

    def tolist(self):
        return self.get().tolist()

    def tobytes(self):
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

    # What stays on the device.

    def __getitem__(self, index):
        if _has_mask(index):
            transfers.count_to_host()       # how many entries are True
        index = _index(index)
        value = self._host[index]
        if isinstance(value, np.generic):   # a 0-d view of the element instead
            value = self._host[(*index, ...) if type(index) is tuple else (index, ...)]
        return _wrap(value)

    def __setitem__(self, index, value):
        self._host[_index(index)] = _operand(value)

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
    if _name != "matmul":       # which cupy lacks in place
        setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__")))
ndarray.__divmod__, ndarray.__rdivmod__ = _binary(divmod), _binary(divmod, reflected=True)


# The functions.

def _refuse_missing(name, keywords, missing):
    for keyword in keywords:
        if keyword in missing:
            raise TypeError(f"cupy's {name} takes no keyword {keyword!r}")


def _function(name, function):
    first, last = OPERANDS.get(name, (0, 1))
    missing = MISSING_KEYWORDS | MISSING_KEYWORDS_OF.get(name, set())
    if name == "copyto":
        missing = missing - {"where"}

    def call(*args, **keywords):
        if name in SHAPED_BY_VALUES or name == "where" and len(args) == 1:
            transfers.count_to_host()
        if name in OF_DTYPES:
            return function(*[a._host if type(a) is ndarray else _plain(a) for a in args])
        if name in OF_LISTS:
            arrays, *args = args
            if not all([type(a) is ndarray for a in arrays]):
                raise TypeError(f"{name} of something other than device arrays")
            args = [[a._host for a in arrays], *map(_plain, args)]
        else:
            args = [_operand(a) if first <= i < last else _plain(a) for i, a in enumerate(args)]
        if not keywords:
            value = function(*args)
        else:
            _refuse_missing(name, keywords, missing)
            value = function(*args, **_keywords(keywords))
            if keywords.get("out") is not None:
                return keywords["out"]
        return _wrap(np.asarray(value) if name in ANSWERS else value)
    return call


def _ufunc(name, ufunc):
    def wrapped(function):
        def call(*args, **keywords):
            args = [a._host if type(a) is ndarray else _operand(a) for a in args]
            if not keywords:
                return _wrap(function(*args))
            value = function(*args, **_keywords(keywords))
            return _wrap(value) if keywords.get("out") is None else keywords["out"]
        return call

    def at(array, index, *operand):
        ufunc.at(_operand(array), _index(index), *map(_operand, operand))

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
    """A numpy module whose names are wrapped when first asked for."""

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
                return value                    # dtypes are numpy's in cupy, too
        elif callable(value):
            return _function(name, value)
        raise AttributeError(f"the stand-in does not imitate {path}")


_numpy = _Namespace(np)


def __getattr__(name):
    return getattr(_numpy, name)


# Between host and device.

def asnumpy(array):
    """A copy of `array` on the host."""
    return array.get() if type(array) is ndarray else np.asarray(array)


def array(a, dtype=None, copy=True, order="K", ndmin=0):
    """A device array of a device array, a numpy array, a number, or nested lists of one of them."""
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
    """`a` on the device: itself if it is there already."""
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
