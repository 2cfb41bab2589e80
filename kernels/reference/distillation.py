"""exp, log, softmax and the distillation loss."""

import numpy as np

from .arithmetic import U

SMALLEST_LOSS = 1e-9
"""Where the true loss is at least this, its relative error is bounded."""


def ulp(y):
    """Distance from one float32 to the next at the size of ``y``."""
    return np.ldexp(1.0, np.maximum(np.frexp(np.where(np.isfinite(y), y, 0.0))[1] - 24, -149))


def in_range(y):
    """``y``, infinite where it rounds to no finite float32."""
    return np.where(np.abs(y) >= 2.0**128 - 2.0**103, np.copysign(np.inf, y), y)


def exp_f32(x, y):
    """y = e^x."""
    with np.errstate(over="ignore", invalid="ignore"):
        y[...] = in_range(np.exp(x.astype(np.float64)))


def exp_f32_bound(x, y):
    return ulp(y)


def exp_f32_sample(rng, n):
    x = (rng.standard_normal(n) * rng.choice([1e-6, 1.0, 50.0])).astype(np.float32)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 88.72283, 88.72284, -87.4, -103.9, -104.0, 1e-45]
    x[1::7] = rng.choice(special, len(x[1::7]))
    return (x,)


def log_f32(x, y):
    """y = log x."""
    with np.errstate(divide="ignore", invalid="ignore"):
        y[...] = np.log(x.astype(np.float64))


def log_f32_bound(x, y):
    return ulp(y)


def log_f32_sample(rng, n):
    x = np.exp(rng.standard_normal(n).clip(-2.9, 2.9) * rng.choice([1e-4, 1.0, 30.0])).astype(np.float32)
    x[1::7] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1.0, 1e-45, 1e-39, 1.1754944e-38], len(x[1::7]))
    return (x,)


def log_probabilities(x, temperature):
    """log softmax(x / temperature) of each row; -inf where all the row is."""
    x = x.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        top = x.max(axis=1, keepdims=True, initial=-np.inf)
        z = (x - np.where(top == -np.inf, 0.0, top)) / temperature
        total = np.exp(z).sum(axis=1, keepdims=True)
        return z - np.log(np.where(total == 0, 1.0, total))


def softmax_f32(x, temperature, y):
    """y[i, j] = exp(x[i, j]/T) / Σ_l exp(x[i, l]/T)."""
    y[...] = np.exp(log_probabilities(x, temperature))


def softmax_f32_bound(x, temperature, y):
    return 4 * ulp(y)


def log_softmax_f32(x, temperature, y):
    """y[i, j] = x[i, j]/T - log Σ_l exp(x[i, l]/T)."""
    y[...] = in_range(log_probabilities(x, temperature))


def log_softmax_f32_bound(x, temperature, y):
    return 4 * U * np.maximum(1.0, np.abs(np.where(np.isfinite(y), y, 0.0)))


def logsumexp_f32(x, temperature, y):
    """y[i] = log Σ_j exp(x[i, j]/T)."""
    x = x.astype(np.float64)
    top = x.max(axis=1, initial=-np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        sums = np.exp((x - np.where(top == -np.inf, 0.0, top)[:, None]) / temperature).sum(axis=1)
        y[...] = np.where(top == -np.inf, -np.inf, in_range(top / temperature + np.log(sums)))
    y[np.isnan(x).any(axis=1) | (top == np.inf)] = np.nan


def logits(rng, m, n):
    """Rows of logits as models make them, and rows that go wrong: masked, far off zero, one far above, not finite."""
    x = (rng.standard_normal((m, n)) * rng.choice([1e-3, 1.0, 3.0, 30.0], (m, 1))).astype(np.float32)
    kind = rng.integers(0, 12, m)
    x[kind == 1] += np.float32(1e6)
    x[(kind == 2)[:, None] & (rng.random((m, n)) < 0.5)] = -np.inf
    x[kind == 3, n // 2 : n // 2 + 1] = 1e37
    x[kind == 4] = 0.7
    x[kind == 5, n - 1 :] = rng.choice([np.inf, np.nan, -1e37])
    x[(kind == 6) & (np.arange(m) > 0)] = -np.inf
    x[:1, :1] = 0.25
    return x


def softmax_f32_sample(rng, m, n):
    return logits(rng, m, n), float(rng.choice([1e-3, 0.07, 1.0, 1.0, 4.0, 1e4]))


log_softmax_f32_sample = softmax_f32_sample


def divergence(student, teacher, temperature):
    """KL(p || q) of each row as Σ p·(d + expm1(-d)), d = log p - log q: the second part sums to Σq - Σp = 0."""
    log_p, log_q = log_probabilities(teacher, temperature), log_probabilities(student, temperature)
    p, q = np.exp(log_p), np.exp(log_q)
    with np.errstate(invalid="ignore", over="ignore"):
        d = log_p - log_q
        kl = np.where(p == 0, q, p * (d + np.expm1(-d))).sum(axis=1)
    empty = [(x == -np.inf).all(axis=1) for x in (student, teacher)]
    unknown = [(~(x < np.inf)).any(axis=1) for x in (student, teacher)]
    return np.where(unknown[0] | unknown[1], np.nan, np.where(empty[0] | empty[1], 0.0, kl))


def cross_entropy(student, labels):
    """-log softmax(student)[label] of each row; 0 where all the row is -inf."""
    value = -log_probabilities(student, 1.0)[np.arange(len(labels)), labels]
    return np.where((student == -np.inf).all(axis=1), 0.0, value)


def kd_loss_f32(student, teacher, labels, temperature, soft, hard, loss):
    """loss[i] = soft·KL(softmax(teacher[i]/T) || softmax(student[i]/T)) + hard·CE(student[i], labels[i])."""
    kl = divergence(student, teacher, temperature)
    loss[...] = soft * np.where((soft == 0) & (kl == np.inf), 0.0, kl)
    if labels is not None:
        loss += hard * cross_entropy(student, labels)


def kd_loss_f32_bound(student, teacher, labels, temperature, soft, hard, loss):
    kl = divergence(student, teacher, temperature)
    bound = soft * 2.0**-14 * np.maximum(kl, SMALLEST_LOSS / max(1.0, temperature**2))
    if labels is not None:
        bound += hard * 4 * U * np.maximum(1.0, cross_entropy(student, labels))
    return bound


def kd_loss_f32_sample(rng, m, n):
    student = logits(rng, m, n)
    teacher = logits(rng, m, n)
    near = rng.random(m) < 0.5
    nudge = rng.standard_normal((m, n)) * rng.choice([0.0, 1e-4, 1e-2], (m, 1)) + rng.choice([0.0, 10.0], (m, 1))
    teacher[near] = (student + nudge).astype(np.float32)[near]
    teacher[:1, :1] = 0.5
    labels = rng.integers(0, n, m) if n and rng.random() < 0.5 else None
    temperature = float(rng.choice([0.5, 1.0, 2.0, 4.0, 20.0]))
    return student, teacher, labels, temperature, 0.7 * temperature**2, 0.3


def kd_loss_grad_f32(student, teacher, labels, temperature, soft, hard, scale, loss, grad):
    """The loss, and grad[i, j] = scale·(soft/T·(q - p) + hard·(softmax(student) - onehot(label)))."""
    kd_loss_f32(student, teacher, labels, temperature, soft, hard, loss)
    p, q = (np.exp(log_probabilities(x, temperature)) for x in (teacher, student))
    masked = (student == -np.inf).all(axis=1, keepdims=True)
    empty = masked | (teacher == -np.inf).all(axis=1, keepdims=True)
    grad[...] = scale * soft / temperature * np.where(empty, 0.0, q - p)
    if labels is not None:
        onehot = labels[:, None] == np.arange(student.shape[1])
        grad += scale * hard * np.where(masked, 0.0, np.exp(log_probabilities(student, 1.0)) - onehot)
    grad[(~(student < np.inf)).any(axis=1) | (~(teacher < np.inf)).any(axis=1)] = np.nan


def kd_loss_grad_f32_bound(student, teacher, labels, temperature, soft, hard, scale, loss, grad):
    step = scale * (soft / temperature + (0.0 if labels is None else hard))
    return kd_loss_f32_bound(student, teacher, labels, temperature, soft, hard, loss), np.full(grad.shape, 8 * U * step)


def kd_loss_grad_f32_sample(rng, m, n):
    return *kd_loss_f32_sample(rng, m, n), 1.0 / max(m, 1)
