"""Data-parallel training on a few CPU cores, one single-threaded process per core.

All parameters are views of one flat tensor in shared memory.  In every step
the processes take micro-batches from a common counter (a core that is busy
with something else simply takes fewer), add up their gradients in their own
shared buffer, and then each process updates its part of the parameters.  The
learning rate follows the share of the time budget that is used, so training
ends on time on a busy machine.

Hidden matrices are trained with Muon (momentum whose direction is made
orthogonal by a Newton-Schulz iteration), everything else with AdamW.
"""

import math
import os
import time

import torch
import torch.multiprocessing as multiprocessing

BETAS = (0.9, 0.98)
EPSILON = 1e-8
MUON_MOMENTUM = 0.95
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def is_hidden_matrix(name, parameter):
    """The matrices inside the layers and the adapter."""
    return parameter.dim() == 2 and (".layers." in name or ".linear_proj." in name)


def orthogonalise(matrix, steps=5):
    """Roughly the nearest matrix with all singular values 1, in bfloat16."""
    a, b, c = _NEWTON_SCHULZ
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.t()
    x = x / (x.float().norm() + 1e-7).bfloat16()
    for _ in range(steps):
        gram = torch.mm(x, x.t())
        x = a * x + torch.mm(b * gram + c * torch.mm(gram, gram), x)
    return (x.t() if tall else x).float()


class FlatParameters:
    """Moves the parameters of modules into one shared tensor."""

    def __init__(self, modules, workers):
        self.named = [(f"{prefix}.{name}", p) for prefix, module in modules.items()
                      for name, p in module.named_parameters()]
        self.named.sort(key=lambda item: is_hidden_matrix(*item))
        size = sum(p.numel() for _, p in self.named)
        self.plain_size = sum(p.numel() for n, p in self.named if not is_hidden_matrix(n, p))
        self.values = torch.zeros(size).share_memory_()
        self.gradients = [torch.zeros(size).share_memory_() for _ in range(workers)]
        self.moments = [torch.zeros(size).share_memory_() for _ in range(2)]
        self.ranges = []
        start = 0
        for _, p in self.named:
            end = start + p.numel()
            self.ranges.append((start, end))
            self.values[start:end] = p.data.flatten()
            p.data = self.values[start:end].view_as(p)
            start = end

    def bind_gradients(self, worker):
        """Let autograd accumulate into this worker's shared buffer."""
        for (_, p), (start, end) in zip(self.named, self.ranges):
            p.grad = self.gradients[worker][start:end].view_as(p)

    def matrices(self, worker, workers):
        """This worker's share of the hidden matrices: (name, start, shape)."""
        found = [(name, start, tuple(p.shape)) for (name, p), (start, _)
                 in zip(self.named, self.ranges) if start >= self.plain_size]
        found.sort(key=lambda item: -item[2][0] * item[2][1])
        return found[worker::workers]

    def per_element(self, value_of, low, high):
        """`value_of(name, parameter)` spread over the elements low ... high."""
        out = torch.zeros(high - low)
        for (name, p), (start, end) in zip(self.named, self.ranges):
            if start < high and end > low:
                out[max(start, low) - low:min(end, high) - low] = value_of(name, p)
        return out


class Options:
    """What one run of `train` needs to know besides the loss."""

    def __init__(self, seconds, peak_rate, matrix_rate=0.005, warmup=200, micro_batches=8, weight_decay=0.05,
                 clip=1.0, checkpoint=None, checkpoint_seconds=150, log_steps=50,
                 phase_of=lambda share: 0, rate_of=lambda name, phase: 1.0):
        self.seconds = seconds
        self.peak_rate = peak_rate
        self.matrix_rate = matrix_rate  # of Muon: the length of a step in spectral norm
        self.warmup = warmup
        self.micro_batches = micro_batches
        self.weight_decay = weight_decay
        self.clip = clip
        self.checkpoint = checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.log_steps = log_steps
        self.phase_of = phase_of        # share of the time budget -> phase number
        self.rate_of = rate_of          # parameter name, phase -> factor of the rate


class _Shared:
    def __init__(self, workers):
        self.barrier = multiprocessing.Barrier(workers)
        self.counter = multiprocessing.Value("l", 0)
        self.norms = torch.zeros(workers, dtype=torch.float64).share_memory_()
        self.control = torch.zeros(3, dtype=torch.float64).share_memory_()  # share, rate, stop


def learning_rate(options, step, share):
    warm = min(1.0, (step + 1) / options.warmup)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return options.peak_rate * warm * max(0.01, cosine)


def save_checkpoint(path, flat, step, elapsed):
    state = {"values": flat.values, "moments": flat.moments, "step": step, "elapsed": elapsed,
             "names": [name for name, _ in flat.named], "ranges": flat.ranges}
    torch.save(state, path + ".part")
    os.replace(path + ".part", path)


def load_checkpoint(path, flat):
    """Restore everything; returns (step, elapsed seconds)."""
    state = torch.load(path)
    if state["names"] != [name for name, _ in flat.named]:
        raise SystemExit(f"{path} is of another model")
    flat.values.copy_(state["values"])
    for mine, saved in zip(flat.moments, state["moments"]):
        mine.copy_(saved)
    return state["step"], state["elapsed"]


def load_values(path, flat):
    """Take over the parameters of a checkpoint by name, where they exist."""
    state = torch.load(path)
    saved = dict(zip(state["names"], state["ranges"]))
    for (name, _), (start, end) in zip(flat.named, flat.ranges):
        if name in saved:
            flat.values[start:end] = state["values"][slice(*saved[name])]


def _muon_step(flat, name, start, shape, rate, decay):
    rows, columns = shape
    part = slice(start, start + rows * columns)
    gradient = flat.gradients[0][part].clone()
    for other in flat.gradients[1:]:
        gradient += other[part]
    momentum = flat.moments[0][part]
    momentum.lerp_(gradient, 1 - MUON_MOMENTUM)
    direction = gradient.lerp_(momentum, MUON_MOMENTUM).view(shape)
    blocks = direction.chunk(3) if "query_key_value" in name else [direction]
    change = torch.cat([orthogonalise(block) for block in blocks])
    weights = flat.values[part].view(shape)
    weights.mul_(1 - decay).sub_(change, alpha=rate * max(1.0, rows / len(blocks) / columns) ** 0.5)


def _worker(rank, workers, flat, shared, make_loss, options, step, elapsed):
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    flat.bind_gradients(rank)
    compute_loss = make_loss()
    size = flat.plain_size
    low, high = size * rank // workers, size * (rank + 1) // workers
    matrices = flat.matrices(rank, workers)
    values = flat.values[low:high]
    first, second = (m[low:high] for m in flat.moments)
    decay = flat.per_element(lambda name, p: float(p.dim() > 1), low, high)
    phase, rates = None, None
    begin = time.time() - elapsed
    saved = logged = time.time()
    logged_step, sums = step, {}

    while True:
        if rank == 0:
            share = (time.time() - begin) / options.seconds
            shared.control[0] = share
            shared.control[1] = learning_rate(options, step, share)
            shared.control[2] = float(share >= 1)
            shared.counter.value = 0
        shared.barrier.wait()
        share, rate, stop = shared.control[:3].tolist()
        if stop:
            break
        if rank == 0 and options.checkpoint and time.time() - saved > options.checkpoint_seconds:
            # nobody changes the parameters before the next barrier
            save_checkpoint(options.checkpoint, flat, step, time.time() - begin)
            saved = time.time()
        if options.phase_of(share) != phase:
            phase = options.phase_of(share)
            rates = flat.per_element(lambda name, p: options.rate_of(name, phase), low, high)
        flat.gradients[rank].zero_()
        while True:
            with shared.counter.get_lock():
                index = shared.counter.value
                shared.counter.value += 1
            if index >= options.micro_batches:
                break
            loss, metrics = compute_loss(step * options.micro_batches + index, phase)
            (loss / options.micro_batches).backward()
            for key, value in metrics.items():
                total, count = sums.get(key, (0.0, 0))
                sums[key] = (total + value, count + 1)
        shared.barrier.wait()
        total = flat.gradients[0][low:high].clone()
        for other in flat.gradients[1:]:
            total += other[low:high]
        shared.norms[rank] = total.double().pow(2).sum()
        shared.barrier.wait()
        norm = float(shared.norms.sum()) ** 0.5
        total.mul_(min(1.0, options.clip / (norm + 1e-6)))
        first.mul_(BETAS[0]).add_(total, alpha=1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(total, total, value=1 - BETAS[1])
        step += 1
        root = (second / (1 - BETAS[1] ** step)).sqrt_().add_(EPSILON)
        change = (first / (1 - BETAS[0] ** step)).div_(root)
        change.addcmul_(values, decay, value=options.weight_decay)
        values.sub_(change.mul_(rates), alpha=rate)
        for name, start, shape in matrices:
            factor = options.rate_of(name, phase)
            if factor:
                _muon_step(flat, name, start, shape, factor * rate / options.peak_rate
                           * options.matrix_rate, options.weight_decay * factor * rate)
        if rank == 0:
            now = time.time()
            if step % options.log_steps == 0:
                text = " ".join(f"{k} {t / c:.4f}" for k, (t, c) in sums.items())
                print(f"step {step} share {share:.3f} rate {rate:.2e} norm {norm:.2f} "
                      f"{(now - logged) / (step - logged_step):.3f} s/step {text}", flush=True)
                logged, logged_step, sums = now, step, {}
    if rank == 0 and options.checkpoint:
        save_checkpoint(options.checkpoint, flat, step, time.time() - begin)


def train(flat, make_loss, options, workers, step=0, elapsed=0.0):
    """Run `workers` processes until the time budget is used.

    make_loss() is called once in every process and returns a function
    (micro-batch number, phase) -> (loss, {metric: float}).
    """
    torch.set_num_threads(1)
    shared = _Shared(workers)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_worker, args=(rank, workers, flat, shared, make_loss,
                                                       options, step, elapsed))
                 for rank in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit("a training process failed")
