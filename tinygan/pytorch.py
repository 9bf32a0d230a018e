"""What to write in place of PyTorch's names, for the error messages about them."""

# attributes of a Tensor
TENSOR = {
    "backward": "grad(y, xs) returns the gradients of y",
    "grad": "grad(y, xs) returns the gradients of y",
    "requires_grad": "grad(y, xs) names the Tensors to differentiate by",
    "detach": "Tensor(x.data) is a constant with the same array; forward() may store x.data",
    **dict.fromkeys(("clone", "copy"), "Tensor(x.data.copy()) is a leaf of its own"),
    "view": "write x.reshape(...)", "ravel": "write x.reshape(-1)",
    **dict.fromkeys(("permute", "swapaxes"), "write x.transpose(...)"), "t": "write x.T",
    "unsqueeze": "write x.reshape(...) or x[:, None]", "dim": "write x.ndim",
    "expand": "arithmetic broadcasts without it", "repeat": "write ops.concat([x, x], axis)",
    **dict.fromkeys(("astype", "float", "double"), "x.data.astype(...) is an array"),
    "numel": "write x.size",
    "var": "write ((x - x.mean(axis, keepdims=True)) ** 2).mean(axis), which divides by n",
    "std": "write ops.sqrt(((x - x.mean(axis, keepdims=True)) ** 2).mean(axis)) (divides by n)",
    "squeeze": "write x.reshape(...)", "cpu": "x.numpy() is an array on the host",
    "to": "backend.use(...) chooses the device, and x.data.astype(...) converts an array",
    "cuda": "backend.use(\"cupy\") chooses the GPU, before anything is made",
    **{name: f"write ops.{name}(x)" for name in (
        "exp", "log", "sqrt", "sigmoid", "tanh", "relu", "softplus", "softmax", "log_softmax",
        "logsumexp", "norm")},
    "abs": "write abs(x)", "pow": "write x ** n", "flatten": "write x.reshape(...)",
    **dict.fromkeys(("clip", "clamp"), "write ops.clip(x, low, high)"),
    **dict.fromkeys(("matmul", "mm", "bmm"), "write x @ y"),
    **dict.fromkeys(("add", "sub", "mul", "div"), "write x + y, x - y, x * y or x / y"),
    "min": "write -(-x).max(...)", "argmax": "x.data.argmax(...) is an array"}

# attributes of a Module
MODULE = {
    "zero_grad": "grad(y, xs) returns new gradients each time, and nothing is stored",
    "to": "backend.use(...) chooses the device, before anything is made",
    "cuda": "backend.use(\"cupy\") chooses the GPU, before anything is made",
    "cpu": "backend.use(\"numpy\") chooses the CPU, before anything is made",
    "requires_grad_": "an optimiser updates the parameters that it was made of, and no others",
    "named_parameters": "arrays() has the names and arrays of parameters and buffers",
    "named_modules": "modules() yields the names and Modules",
    **dict.fromkeys(("children", "named_children"), "parts() lists the names and Modules"),
    "apply": "loop over the (name, Module) of modules()",
    "register_buffer": "an array that is set on self is a buffer",
    "add_module": "a Module that is set on self, alone or in a list, is a part",
    "append": "write nn.Sequential(*net, layer)"}

# names in torch.nn
NN = {
    "Linear": "write nn.Dense", "BatchNorm1d": "write nn.BatchNorm",
    "BatchNorm2d": "write nn.BatchNorm",
    "Conv1d": "write nn.Conv2d(n_in, n_out, (1, k)), for sequences (m, n_in, 1, T)",
    "Unflatten": "write nn.Reshape",
    "Identity": "write nn.Sequential()", "Softmax": "write ops.softmax in forward()",
    "MultiheadAttention": "between the pixels of images there is nn.SelfAttention2d",
    "Softplus": "a function such as ops.softplus is a layer of a Sequential",
    **dict.fromkeys(("BCEWithLogitsLoss", "BCELoss"),
                    "games.losses has the losses of scores, such as NonSaturating()"),
    "MSELoss": "write ((x - y) ** 2).mean()", "L1Loss": "write abs(x - y).mean()",
    "CrossEntropyLoss": "write ops.cross_entropy(logits, labels)",
    "functional": "functions of Tensors are in tinygan.ops",
    "Parameter": "a Tensor that is set on self is a parameter",
    "ModuleList": "a list of Modules that is set on self is found",
    "ParameterList": "set each Tensor on self by a name of its own",
    "ModuleDict": "a dictionary of Modules that is set on self is found"}
