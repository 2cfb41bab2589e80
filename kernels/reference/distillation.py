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
    """Rows of logits as models make them, and rows that go wrong: masked, far off zero, one far above, not finite,
    rising from end to end, with nothing at first."""
    x = (rng.standard_normal((m, n)) * rng.choice([1e-3, 1.0, 3.0, 30.0], (m, 1))).astype(np.float32)
    kind = rng.integers(0, 12, m)
    x[kind == 1] += np.float32(1e6)
    x[(kind == 2)[:, None] & (rng.random((m, n)) < 0.5)] = -np.inf
    x[kind == 3, n // 2 : n // 2 + 1] = 1e37
    x[kind == 4] = 0.7
    x[kind == 5, n - 1 :] = rng.choice([np.inf, np.nan, -1e37])
    x[(kind == 6) & (np.arange(m) > 0)] = -np.inf
    x[kind == 7] += np.linspace(0, 60, n, dtype=np.float32)
    x[kind == 8, : n // 2] = -np.inf
    x[:1, :1] = 0.25
    return x


def softmax_f32_sample(rng, m, n):
    return logits(rng, m, n), float(rng.choice([1e-3, 0.07, 1.0, 1.0, 4.0, 1e4]))


log_softmax_f32_sample = logsumexp_f32_sample = softmax_f32_sample
logsumexp_f32_bound = log_softmax_f32_bound


def softmax_columns_f32(x, temperature, y):
    """y[i, :, j] = softmax(x[i, :, j]/T)."""
    for columns, to in zip(x, y, strict=True):
        softmax_f32(columns.T, temperature, to.T)


def log_softmax_columns_f32(x, temperature, y):
    """y[i, :, j] = log softmax(x[i, :, j]/T)."""
    for columns, to in zip(x, y, strict=True):
        log_softmax_f32(columns.T, temperature, to.T)


def logsumexp_columns_f32(x, temperature, y):
    """y[i, j] = log Σ_l exp(x[i, l, j]/T)."""
    for columns, to in zip(x, y, strict=True):
        logsumexp_f32(columns.T, temperature, to)


def softmax_columns_f32_sample(rng, m, c, n):
    x, temperature = softmax_f32_sample(rng, m * n, c)
    return np.ascontiguousarray(x.reshape(m, n, c).transpose(0, 2, 1)), temperature


softmax_columns_f32_bound = softmax_f32_bound
log_softmax_columns_f32_sample = logsumexp_columns_f32_sample = softmax_columns_f32_sample
log_softmax_columns_f32_bound = logsumexp_columns_f32_bound = log_softmax_f32_bound


def kl_terms(log_a, a, log_b, b):
    """a·(d + expm1(-d)), d = log a - log b: their sum is KL(a || b), and each is of second order in d. a·expm1(-d) is
    b - a, which cancels where d is small, and where it is not can't overflow."""
    d = log_a - log_b
    return np.where(a == 0, b, np.where(np.abs(d) < 1, a * (d + np.expm1(-d)), a * d + (b - a)))


def slope_of(temperature):
    """log2(e)/T, within the range of float32."""
    return np.clip(np.log2(np.e) / temperature, 2.0**-126, 2.0**128 - 2.0**104)


def largest_so_far(x):
    """The largest element of a row up to the end of each element's block."""
    length = 1024
    while 512 * length < x.shape[1]:
        length *= 2
    starts = np.arange(0, x.shape[1], length)
    if not len(starts):
        return x.astype(np.float64)
    largest = np.maximum.accumulate(np.maximum.reduceat(x, starts, axis=1), axis=1)
    return np.repeat(largest, length, axis=1)[:, : x.shape[1]].astype(np.float64)


def is_read_once(x, temperature):
    """Whether the terms of a row are over the largest element so far: if that is never far off 0, and rises by no more
    than 64 octaves."""
    octaves = largest_so_far(x) * slope_of(temperature)
    octaves[np.isneginf(octaves)] = np.nan
    first = np.nanmin(octaves, axis=1, keepdims=True, initial=np.inf)
    last = np.nanmax(octaves, axis=1, keepdims=True, initial=-np.inf)
    near = np.nanmax(np.abs(octaves), axis=1, keepdims=True, initial=0.0) <= 2.0**17
    return near & (np.rint(last) - np.rint(first) <= 64)


def vanish(x, temperature, once):
    """Where a float32 term is 0: the exponent of x/T to base 2, in sixteenths, is 150 or more below that of the row's
    largest element, a whole number; if `once`, of the largest so far."""
    slope = slope_of(temperature)
    top = np.where(once, largest_so_far(x), x.max(axis=1, keepdims=True, initial=-np.inf).astype(np.float64))
    base = np.where(np.abs(top * slope) > 2.0**17, top, 0.0)
    sixteenths = np.rint(16 * (x - base) * slope.astype(np.float32).astype(np.float64))
    return sixteenths / 16 <= np.rint((top - base) * slope) - 150


def divergence(student, teacher, temperature):
    """KL(p || q) of each row as Σ p·(d + expm1(-d)), d = log p - log q: the second part sums to Σq - Σp = 0."""
    log_p, log_q = log_probabilities(teacher, temperature), log_probabilities(student, temperature)
    with np.errstate(invalid="ignore", over="ignore"):
        p = np.exp(log_p)
        once = is_read_once(student, temperature) & is_read_once(teacher, temperature)
        p = np.where(vanish(teacher, temperature, once) | (p <= 2.0**-150), 0.0, p)
        log_q = np.where(log_p - log_q >= 2.0**128, -np.inf, log_q)  # the difference is a float32 too
        kl = kl_terms(log_p, p, log_q, np.exp(log_q)).sum(axis=1)
    empty = [(x == -np.inf).all(axis=1) for x in (student, teacher)]
    unknown = [(~(x < np.inf)).any(axis=1) for x in (student, teacher)]
    return np.where(unknown[0] | unknown[1], np.nan, np.where(empty[0] | empty[1], 0.0, kl))


def smoothed(labels, smoothing, classes):
    """Targets: smoothing/V for each class, and 1 - smoothing more for the label."""
    return (1 - smoothing) * (labels[:, None] == np.arange(classes)) + smoothing / classes


def cross_entropy(student, labels, smoothing):
    """-Σ y·log softmax(student) of each row; 0 where all the row is -inf."""
    y = smoothed(labels, smoothing, student.shape[1])
    value = np.where(y == 0, 0.0, -y * np.where(y == 0, 0.0, log_probabilities(student, 1.0))).sum(axis=1)
    return np.where((student == -np.inf).all(axis=1), 0.0, value)


def kd_loss_f32(student, teacher, labels, temperature, soft, hard, smoothing, loss):
    """loss[i] = soft[i]·KL(softmax(teacher[i]/T[i]) || softmax(student[i]/T[i])) + hard[i]·CE(student[i], smoothed
    labels[i]); 0 where both factors are, and without its first part where that one is."""
    kl = divergence(student, teacher, temperature[:, None])
    hard = np.zeros(len(loss)) if labels is None else hard
    loss[...] = soft * np.where((soft == 0) & (kl == np.inf), 0.0, kl)
    if labels is not None:
        loss += hard * np.where(hard == 0, 0.0, cross_entropy(student, labels, smoothing))
    loss[(soft == 0) & (hard == 0)] = 0.0


def kd_loss_f32_bound(student, teacher, labels, temperature, soft, hard, smoothing, loss):
    kl = divergence(student, teacher, temperature[:, None])
    known = np.where(soft == 0, 0.0, kl)
    bound = soft * 2.0**-14 * np.maximum(known, SMALLEST_LOSS / np.maximum(1.0, temperature**2))
    with np.errstate(invalid="ignore"):  # p is a float32, whose steps are no smaller than 2^-149
        d = log_probabilities(teacher, temperature[:, None]) - log_probabilities(student, temperature[:, None])
    bound += soft * 2.0**-149 * np.where(np.isfinite(d), np.abs(d), 0.0).sum(axis=1)
    if labels is not None:
        bound += hard * 4 * U * np.where(hard == 0, 0.0, np.maximum(1.0, cross_entropy(student, labels, smoothing)))
    return bound


TEMPERATURES, SHARES = [0.5, 1.0, 2.0, 4.0, 20.0, 1e-3, 0.05, 1e3, 1e4], [0.16] * 5 + [0.05] * 4


def taught(rng, m, n):
    """Student, teacher, often near each other, labels or None, and T."""
    student = logits(rng, m, n)
    teacher = logits(rng, m, n)
    near = rng.random(m) < 0.5
    nudge = rng.standard_normal((m, n)) * rng.choice([0.0, 1e-4, 1e-2], (m, 1)) + rng.choice([0.0, 10.0], (m, 1))
    teacher[near] = (student + nudge).astype(np.float32)[near]
    teacher[:1, :1] = 0.5
    labels = rng.integers(0, n, m) if n and rng.random() < 0.5 else None
    return student, teacher, labels, float(rng.choice(TEMPERATURES, p=SHARES))


def kd_loss_f32_sample(rng, m, n):
    """One temperature or several, weights of rows, of which some, or parts of some, are 0."""
    student, teacher, labels, one = taught(rng, m, n)
    temperature = np.full(m, one) if rng.random() < 0.7 else rng.choice(TEMPERATURES, m, p=SHARES)
    weight = rng.choice([1.0, 1.0 / max(m, 1), 0.3, 0.0], m, p=[0.4, 0.2, 0.3, 0.1])
    soft, hard = np.array([(0.7, 0.3), (1.0, 0.0), (0.0, 1.0)])[rng.choice(3, m, p=[0.7, 0.15, 0.15])].T
    smoothing = float(rng.choice([0.0, 0.1, 1.0], p=[0.5, 0.4, 0.1]))
    return student, teacher, labels, temperature, soft * weight * temperature**2, hard * weight, smoothing


def kd_loss_grad_f32(student, teacher, labels, temperature, soft, hard, smoothing, loss, grad):
    """The loss, and grad[i, j] = soft[i]/T[i]·(q - p) + hard[i]·(softmax(student) - y), y the smoothed label."""
    kd_loss_f32(student, teacher, labels, temperature, soft, hard, smoothing, loss)
    hard = np.zeros(len(loss)) if labels is None else hard
    p, q = (np.exp(log_probabilities(x, temperature[:, None])) for x in (teacher, student))
    masked = (student == -np.inf).all(axis=1, keepdims=True)
    empty = masked | (teacher == -np.inf).all(axis=1, keepdims=True)
    grad[...] = (soft / temperature)[:, None] * np.where(empty, 0.0, q - p)
    if labels is not None:
        y = smoothed(labels, smoothing, student.shape[1])
        grad += hard[:, None] * np.where(masked, 0.0, np.exp(log_probabilities(student, 1.0)) - y)
    grad[(~(student < np.inf)).any(axis=1) | (~(teacher < np.inf)).any(axis=1)] = np.nan
    grad[(soft == 0) & (hard == 0)] = 0.0


def kd_loss_grad_f32_bound(student, teacher, labels, temperature, soft, hard, smoothing, loss, grad):
    of_loss = kd_loss_f32_bound(student, teacher, labels, temperature, soft, hard, smoothing, loss)
    step = soft / temperature + (0.0 if labels is None else hard)
    return of_loss, np.broadcast_to(8 * U * step[:, None], grad.shape)


kd_loss_grad_f32_sample = kd_loss_f32_sample


(FORWARD_KL, REVERSE_KL, JSD, SKEW_KL, REVERSE_SKEW_KL, TOTAL_VARIATION, CROSS_ENTROPY, GIVEN_KL, BINARY_KL,
 SQUARED_LOGITS) = range(10)
"""pc_divergence of pycomp.h."""


def held(log_p):
    """exp of rows of logarithms, as doubles of the kernels hold it: 0 from 2^-996 of the largest down."""
    top = log_p.max(axis=1, keepdims=True, initial=-np.inf)
    return np.where(np.rint((log_p - top) * np.log2(np.e)) <= -996, 0.0, np.exp(log_p))


def mixture(log_a, log_b, share):
    """Logarithm of share·a + (1 - share)·b."""
    high, low = np.maximum(log_a, log_b), np.minimum(log_a, log_b)
    near, far = np.where(log_a >= log_b, share, 1 - share), np.where(log_a >= log_b, 1 - share, share)
    return np.where(high == -np.inf, -np.inf, high + np.log(near + far * np.exp(low - high)))


def distance(kind, share, log_p, log_q):
    """Of each element: its part of the distance, and its derivative by q."""
    p, q = held(log_p), held(log_q)
    if kind == TOTAL_VARIATION:
        return 0.5 * np.abs(p - q), 0.5 * np.sign(q - p)
    if kind == FORWARD_KL:
        return kl_terms(log_p, p, log_q, q), -np.exp(log_p - log_q)
    if kind == REVERSE_KL:
        return kl_terms(log_q, q, log_p, p), log_q - log_p
    if kind == REVERSE_SKEW_KL:
        log_m = mixture(log_q, log_p, share)
        return kl_terms(log_q, q, log_m, np.exp(log_m)), log_q - log_m - share * np.exp(log_q - log_m)
    log_m = mixture(log_p, log_q, share)
    m = np.exp(log_m)
    if kind == SKEW_KL:
        return kl_terms(log_p, p, log_m, m), -(1 - share) * np.exp(log_p - log_m)
    value = share * kl_terms(log_p, p, log_m, m) + (1 - share) * kl_terms(log_q, q, log_m, m)
    return value, (1 - share) * (log_q - log_m)


def divergence_f64(student, teacher, kind, share, temperature, scale, loss):
    """loss[i] = scale[i]·distance(softmax(student[i]/T[i]), softmax(teacher[i]/T[i]))."""
    divergence_grad_f64(student, teacher, kind, share, temperature, scale, loss, np.empty(student.shape))


def answers(z):
    """Logarithms and probabilities of yes and of no."""
    both = [np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x))) for x in (z, -z)]
    return *both, *(np.where(np.rint(x * np.log2(np.e)) <= -996, 0.0, np.exp(x)) for x in both)


def of_softmax(kind, share, student, teacher, t):
    log_q, log_p = log_probabilities(student, t), log_probabilities(teacher, t)
    values, slopes = distance(kind, share, log_p, log_q)
    p, q = held(log_p), held(log_q)
    steps = -p if kind == FORWARD_KL else np.where(q == 0, 0.0, q * slopes)
    return values.sum(axis=1), (steps - np.where(q == 0, 0.0, q * steps.sum(axis=1, keepdims=True))) / t


def of_given(kind, student, p, t):
    log_q = log_probabilities(student, t)
    q = held(log_q)
    values = np.where(p == 0, 0.0, -p * log_q) if kind == CROSS_ENTROPY else kl_terms(np.log(p), p, log_q, q)
    return values.sum(axis=1), (q * p.sum(axis=1, keepdims=True) - p) / t


def of_logits(kind, student, teacher, t):
    if kind == SQUARED_LOGITS:
        apart = np.where(student == teacher, 0.0, student - teacher) / t
        return (apart**2).sum(axis=1), 2 * apart / t
    log_yes_q, log_no_q, yes_q, no_q = answers(student / t)
    log_yes_p, log_no_p, yes_p, no_p = answers(teacher / t)
    values = kl_terms(log_yes_p, yes_p, log_yes_q, yes_q) + kl_terms(log_no_p, no_p, log_no_q, no_q)
    return values.sum(axis=1), (yes_q - yes_p) / t


def divergence_grad_f64(student, teacher, kind, share, temperature, scale, loss, grad):
    """The loss, and grad[i, j] = scale[i]·q_j·(slope_j - Σ_l q_l slope_l)/T[i], slope its derivative by q."""
    student, teacher = student.astype(np.float64), teacher.astype(np.float64)
    given, t = kind in (CROSS_ENTROPY, GIVEN_KL), temperature[:, None]
    with np.errstate(all="ignore"):
        if given:
            values, slopes = of_given(kind, student, teacher, t)
        elif kind in (BINARY_KL, SQUARED_LOGITS):
            values, slopes = of_logits(kind, student, teacher, t)
        else:
            values, slopes = of_softmax(kind, share, student, teacher, t)
        loss[...], grad[...] = scale * values, scale[:, None] * slopes
    unknown, empty = states(student, *(() if given else (teacher,)))
    settle((unknown, empty & (kind <= GIVEN_KL)), scale, loss, grad)
    if given:
        with np.errstate(invalid="ignore"):
            wrong = (scale != 0) & ~((teacher >= 0).all(axis=1) & (np.abs(teacher.sum(axis=1) - 1) <= 1e-3))
        loss[wrong], grad[wrong] = -np.inf, np.nan


def divergence_f64_bound(student, teacher, kind, share, temperature, scale, loss):
    """Near the optimum a loss is about d²/2, and d, a difference of logarithms, is known to their rounding."""
    finite = np.where(np.isfinite(loss), np.abs(loss), 0.0)
    first_order = kind in (TOTAL_VARIATION, CROSS_ENTROPY)
    least = scale * (2.0**-20 if first_order else SMALLEST_LOSS / np.maximum(1.0, temperature**2))
    return 2.0**-28 * np.maximum(finite, least) + 2.0**-48 * np.sqrt(scale * finite)


def divergence_grad_f64_bound(student, teacher, kind, share, temperature, scale, loss, grad):
    finite = np.where(np.isfinite(grad), np.abs(grad), 0.0)
    bound = divergence_f64_bound(student, teacher, kind, share, temperature, scale, loss)
    size = np.maximum(scale, np.where(np.isfinite(loss), np.abs(loss), 0.0))
    of_grad = np.maximum(2.0**-30 * (size / temperature)[:, None], 2.0**-28 * finite)
    if kind == TOTAL_VARIATION:  # where p and q are as good as equal the slope has either sign
        p, q = (np.nan_to_num(np.exp(log_probabilities(x, temperature[:, None]))) for x in (teacher, student))
        with np.errstate(invalid="ignore"):
            either = np.where(np.abs(p - q) <= 2.0**-40 * q, q, 0.0)
            of_grad += (scale / temperature)[:, None] * (either + q * either.sum(axis=1, keepdims=True))
    return bound, of_grad


def of_rounded(function):
    """The reference whose gradients, the last operand, are float32."""

    def rounded_function(*operands):
        function(*operands)
        operands[-1][...] = in_range(operands[-1])

    return rounded_function


divergence_f32, divergence_grad_f32 = divergence_f64, of_rounded(divergence_grad_f64)
divergence_f32_bound = divergence_f64_bound


def rounded(bound):
    """The bound where gradients, the last operand, are rounded to float32 once."""

    def rounded_bound(*operands):
        of_loss, of_grad = bound(*operands)
        return of_loss, of_grad + ulp(operands[-1])

    return rounded_bound


def of_float32(sample, count):
    """The sample whose first operands, so many of them, are float32."""

    def rounded_sample(rng, **sizes):
        operands = sample(rng, **sizes)
        with np.errstate(over="ignore"):
            return *(x.astype(np.float32) for x in operands[:count]), *operands[count:]

    return rounded_sample


divergence_grad_f32_bound = rounded(divergence_grad_f64_bound)


def divergence_f64_sample(rng, m, n):
    student, teacher, _, temperature = taught(rng, m, n)
    student, teacher = (x * (1 + 2.0**-40 * rng.standard_normal(x.shape)) for x in (student, teacher))
    same = rng.random(m) < 0.2
    teacher[same] = student[same]
    kind, share = int(rng.integers(0, 10)), float(rng.choice([1e-20, 1e-6, 0.1, 0.5, 0.9, 1 - 2**-50]))
    if kind in (CROSS_ENTROPY, GIVEN_KL):
        with np.errstate(invalid="ignore"):
            teacher = np.exp(log_probabilities(np.where(np.isfinite(teacher), teacher, 0.0), temperature))
        teacher[rng.random(m) < 0.1] *= rng.choice([-1.0, 1.01, np.nan])
    temperatures = temperature * rng.choice([1.0, 2.0], m)
    return student, teacher, kind, share, temperatures, rng.choice([0.0, 1.0, 0.37, 1.0], m)


divergence_f32_sample = of_float32(divergence_f64_sample, 2)
divergence_grad_f32_sample, divergence_grad_f64_sample = divergence_f32_sample, divergence_f64_sample


def states(*sides):
    """Rows that hold NaN or +inf on any side, and rows that are -inf alone on any, but for those."""
    unknown = np.any([~(x < np.inf).all(axis=1) for x in sides], axis=0)
    return unknown, ~unknown & np.any([(x == -np.inf).all(axis=1) for x in sides], axis=0)


def settle(rows, scale, loss, grad):
    """NaN for rows that are unknown, 0 for those that are empty, as :func:`states` tells, or count nothing."""
    unknown, empty = rows
    loss[unknown], grad[unknown] = np.nan, np.nan
    nothing = (scale == 0) | empty
    loss[nothing], grad[nothing] = 0.0, 0.0


def decoupled_kl_f64(student, teacher, labels, alpha, beta, temperature, scale, loss):
    """loss[i] = scale[i]·(alpha·KL(b_t || b_s) + beta·KL(p̂ || q̂)): the label against the others, the others alone."""
    decoupled_kl_grad_f64(student, teacher, labels, alpha, beta, temperature, scale, loss, np.empty(student.shape))


def log_odds(x, own, t):
    """Of the label against all other classes."""
    others = np.where(own, -np.inf, x)
    top = others.max(axis=1, keepdims=True, initial=-np.inf)
    label = np.where(own, x, 0.0).sum(axis=1, keepdims=True)
    apart = (label - top) / t - np.log(np.exp((others - top) / t).sum(axis=1, keepdims=True))
    return np.where(top == -np.inf, np.inf, apart)


def decoupled_kl_grad_f64(student, teacher, labels, alpha, beta, temperature, scale, loss, grad):
    """The loss, and its gradient: scale·target/T for the label, scale·(beta·(q̂ - p̂) - target·q̂)/T for the others."""
    student, teacher, t = student.astype(np.float64), teacher.astype(np.float64), temperature[:, None]
    own = labels[:, None] == np.arange(student.shape[1])
    with np.errstate(all="ignore"):
        (log_yes_q, log_no_q, yes_q, no_q), (log_yes_p, log_no_p, yes_p, no_p) = (
            answers(log_odds(x, own, t)) for x in (student, teacher))
        log_q, log_p = (log_probabilities(np.where(own, -np.inf, x), t) for x in (student, teacher))
        q, p = held(log_q), held(log_p)
        both = [(np.where(own, -np.inf, x) > -np.inf).any(axis=1, keepdims=True) for x in (student, teacher)]
        weight = np.where(both[0] & both[1], beta, 0.0)
        between = kl_terms(log_yes_p, yes_p, log_yes_q, yes_q) + kl_terms(log_no_p, no_p, log_no_q, no_q)
        among = kl_terms(log_p, p, log_q, q).sum(axis=1)
        among = np.where(weight[:, 0] == 0, 0.0, beta * among)
        loss[...] = scale * (np.where(alpha == 0, 0.0, alpha * between[:, 0]) + among)
        target = alpha * (yes_q - yes_p)
        grad[...] = scale[:, None] * np.where(own, target, weight * (q - p) - target * q) / t
    settle(states(student, teacher), scale, loss, grad)


def decoupled_kl_f64_bound(student, teacher, labels, alpha, beta, temperature, scale, loss):
    return divergence_f64_bound(student, teacher, FORWARD_KL, 0.0, temperature, scale * (alpha + beta), loss)


def decoupled_kl_grad_f64_bound(student, teacher, labels, alpha, beta, temperature, scale, loss, grad):
    return divergence_grad_f64_bound(student, teacher, FORWARD_KL, 0.0, temperature, scale * (alpha + beta), loss, grad)


def decoupled_kl_f64_sample(rng, m, n):
    student, teacher, _, _, temperature, scale = divergence_f64_sample(rng, m, n)
    teacher = np.where(rng.random((m, 1)) < 0.5, teacher, logits(rng, m, n))
    labels = rng.integers(0, max(n, 1), m)
    for x in (student, teacher):  # the label masked, or all the others
        alone = (np.arange(n) == labels[:, None]) ^ (rng.random((m, 1)) < 0.5)
        x[alone & (rng.random((m, 1)) < 0.1)] = -np.inf
    alpha, beta = (float(rng.choice([0.0, 1.0, 8.0])) for _ in range(2))
    return student, teacher, labels, alpha, beta, temperature, scale


decoupled_kl_f32_sample = of_float32(decoupled_kl_f64_sample, 2)
decoupled_kl_grad_f32_bound = rounded(decoupled_kl_grad_f64_bound)
decoupled_kl_f32, decoupled_kl_grad_f32 = decoupled_kl_f64, of_rounded(decoupled_kl_grad_f64)
decoupled_kl_f32_bound = decoupled_kl_f64_bound
decoupled_kl_grad_f32_sample, decoupled_kl_grad_f64_sample = decoupled_kl_f32_sample, decoupled_kl_f64_sample


def standardized(x):
    """(x - mean)/deviation of rows, 0 where a row is constant, and the deviation."""
    off = x - x.max(axis=1, keepdims=True, initial=-np.inf)
    off = off - off.mean(axis=1, keepdims=True)
    deviation = np.sqrt((off * off).mean(axis=1, keepdims=True))
    return np.where(deviation == 0, 0.0, off / deviation), deviation


def standardized_kl_f64(student, teacher, temperature, scale, loss):
    """loss[i] = scale[i]·KL(softmax(z(teacher[i])/T[i]) || softmax(z(student[i])/T[i])), z standardised rows."""
    standardized_kl_grad_f64(student, teacher, temperature, scale, loss, np.empty(student.shape))


def standardized_kl_grad_f64(student, teacher, temperature, scale, loss, grad):
    """The loss, and its gradient: scale·(u - mean(u) - z·mean(u·z))/deviation, u = (q - p)/T."""
    student, teacher, t = student.astype(np.float64), teacher.astype(np.float64), temperature[:, None]
    if student.shape[1] == 0:
        loss[...] = 0.0
        return
    with np.errstate(all="ignore"):
        (z, deviation), (z_teacher, _) = standardized(student), standardized(teacher)
        log_q, log_p = log_probabilities(z, t), log_probabilities(z_teacher, t)
        q, p = held(log_q), held(log_p)
        loss[...] = scale * kl_terms(log_p, p, log_q, q).sum(axis=1)
        u = (q - p) / t
        slopes = (u - u.mean(axis=1, keepdims=True) - z * (u * z).mean(axis=1, keepdims=True)) / deviation
        grad[...] = scale[:, None] * np.where(deviation == 0, 0.0, slopes)
    unknown, empty = states(student, teacher)
    unknown |= ~empty & np.any([(x == -np.inf).any(axis=1) for x in (student, teacher)], axis=0)  # no deviation
    settle((unknown, empty), scale, loss, grad)


def standardized_kl_f64_bound(student, teacher, temperature, scale, loss):
    of_loss = divergence_f64_bound(student, teacher, FORWARD_KL, 0.0, temperature, scale, loss)
    finite = np.where(np.isfinite(loss), np.abs(loss), 0.0)
    return of_loss + 2.0**-45 * np.sqrt(scale * finite)  # deviations are rounded too


def standardized_kl_grad_f64_bound(student, teacher, temperature, scale, loss, grad):
    with np.errstate(all="ignore"):
        deviation = standardized(student.astype(np.float64))[1][:, 0] if student.shape[1] else np.ones(len(student))
    spread = np.where(deviation > 0, deviation, 1.0)
    of_loss = standardized_kl_f64_bound(student, teacher, temperature, scale, loss)
    size = np.maximum(scale, np.where(np.isfinite(loss), np.abs(loss), 0.0)) / (temperature * spread)
    finite = np.where(np.isfinite(grad), np.abs(grad), 0.0)
    return of_loss, np.maximum(2.0**-30 * size[:, None], 2.0**-28 * finite)


def standardized_kl_f64_sample(rng, m, n):
    student, teacher, _, _, temperature, scale = divergence_f64_sample(rng, m, n)
    teacher = np.where(rng.random((m, 1)) < 0.5, student * 3 + 5, teacher)
    return student, teacher, temperature, scale


standardized_kl_f32_sample = of_float32(standardized_kl_f64_sample, 2)
standardized_kl_grad_f32_bound = rounded(standardized_kl_grad_f64_bound)
standardized_kl_f32, standardized_kl_grad_f32 = standardized_kl_f64, of_rounded(standardized_kl_grad_f64)
standardized_kl_f32_bound = standardized_kl_f64_bound
standardized_kl_grad_f32_sample = standardized_kl_f32_sample
standardized_kl_grad_f64_sample = standardized_kl_f64_sample


def ensemble_kl_f64(student, teachers, shares, temperature, scale, loss):
    """loss[i] = scale[i]·KL(p || softmax(student[i]/T[i])), p = Σ_k shares[k]·softmax(teachers[i, k]/T[i])."""
    ensemble_kl_grad_f64(student, teachers, shares, temperature, scale, loss, np.empty(student.shape))


def ensemble_kl_grad_f64(student, teachers, shares, temperature, scale, loss, grad):
    """The loss, and grad = scale·(q - p)/T."""
    student, teachers, t = student.astype(np.float64), teachers.astype(np.float64), temperature[:, None]
    each = [teachers[:, k] for k in range(len(shares))]
    with np.errstate(all="ignore"):
        p = sum(share * held(log_probabilities(x, t)) for share, x in zip(shares, each, strict=True))
        values, slopes = of_given(GIVEN_KL, student, p, t)
        loss[...], grad[...] = scale * values, scale[:, None] * slopes
    unknown, empty = states(student)
    of_teachers, no_teacher = states(*each)
    unknown |= ~empty & of_teachers
    settle((unknown, ~unknown & (empty | no_teacher)), scale, loss, grad)


def ensemble_kl_f64_bound(student, teachers, shares, temperature, scale, loss):
    return divergence_f64_bound(student, None, GIVEN_KL, 0.0, temperature, scale, loss)


def ensemble_kl_grad_f64_bound(student, teachers, shares, temperature, scale, loss, grad):
    return divergence_grad_f64_bound(student, None, GIVEN_KL, 0.0, temperature, scale, loss, grad)


def ensemble_kl_f64_sample(rng, m, n, e):
    """At least one teacher."""
    e = max(e, 1)
    student, teacher, _, _, temperature, scale = divergence_f64_sample(rng, m, n)
    others = [np.where(rng.random((m, 1)) < 0.5, student, logits(rng, m, n)) for _ in range(e - 1)]
    shares = rng.choice([0.0, 1.0, 3.0], e, p=[0.1, 0.5, 0.4])
    shares[0] = 1.0
    return student, np.stack([teacher, *others], axis=1), shares / shares.sum(), temperature, scale


ensemble_kl_f32_sample = of_float32(ensemble_kl_f64_sample, 2)
ensemble_kl_grad_f32_bound = rounded(ensemble_kl_grad_f64_bound)
ensemble_kl_f32, ensemble_kl_grad_f32 = ensemble_kl_f64, of_rounded(ensemble_kl_grad_f64)
ensemble_kl_f32_bound = ensemble_kl_f64_bound
ensemble_kl_grad_f32_sample, ensemble_kl_grad_f64_sample = ensemble_kl_f32_sample, ensemble_kl_f64_sample


LEAST_SPREAD = 2.0**-900
"""Deviations whose squares add up to no more count as none."""


def probabilities_of(x, temperature):
    """softmax(x/T) of rows; NaN where a row has none."""
    top = x.max(axis=1, keepdims=True, initial=-np.inf)
    e = np.exp((x - top) / temperature)
    return e / e.sum(axis=1, keepdims=True)


def deviations(p, axis):
    """p less its mean along an axis: exactly 0 where all are equal. Along rows, whose sum is 1, the mean is 1/n."""
    if axis == 1:
        return p - 1.0 / p.shape[1]
    above = p - p[:1]
    return above - above.mean(axis=0)


def unit(p, axis):
    """Deviations over their length, and 1/length: 0 for both where there is none."""
    off = deviations(p, axis)
    squares = (off * off).sum(axis=axis, keepdims=True)
    inverse = np.where(squares <= LEAST_SPREAD, 0.0, 1.0 / np.sqrt(squares))
    return off * inverse, inverse


def correlation(p, q, axis):
    """1 - Pearson's correlation along an axis, as half the squared distance of unit vectors; its slope by q."""
    (u, inverse_p), (v, inverse_q) = unit(p, axis), unit(q, axis)
    loss = 0.5 * ((u - v) ** 2).sum(axis=axis, keepdims=True)
    return loss, np.where(inverse_p == 0, 0.0, inverse_q) * ((v - u) - loss * v)


def dist_loss_f64(student, teacher, temperature, row_loss, class_loss):
    """row_loss[i] = 1 - corr(p[i, :], q[i, :]), class_loss[j] = 1 - corr(p[:, j], q[:, j]), p and q softmax at T."""
    dist_loss_grad_f64(student, teacher, temperature, 0.0, 0.0, row_loss, class_loss, np.empty(student.shape))


def dist_loss_grad_f64(student, teacher, temperature, row_scale, class_scale, row_loss, class_loss, grad):
    """The losses, and grad = q·(g - Σ_l q_l g_l)/T, g = row_scale·Σ row_loss + class_scale·Σ class_loss by q."""
    if not student.size:
        row_loss[...], class_loss[...] = 0.0, 0.0
        return
    with np.errstate(all="ignore"):
        q, p = (probabilities_of(x.astype(np.float64), temperature) for x in (student, teacher))
        (of_rows, row_slope), (of_classes, class_slope) = (correlation(p, q, axis) for axis in (1, 0))
        row_loss[...], class_loss[...] = of_rows[:, 0], of_classes[0]
        slope = row_scale * row_slope + class_scale * class_slope
        grad[...] = q * (slope - (q * slope).sum(axis=1, keepdims=True)) / temperature


def dist_loss_f64_bound(student, teacher, temperature, row_loss, class_loss):
    nothing = np.empty(student.shape)
    return dist_loss_grad_f64_bound(student, teacher, temperature, 0.0, 0.0, row_loss, class_loss, nothing)[:2]


def dist_loss_grad_f64_bound(student, teacher, temperature, row_scale, class_scale, row_loss, class_loss, grad):
    """What probabilities are off by, as softmax_f64's, brought forward.

    A unit vector u = off/|off| moves by at most twice what off does, over its length: `apart` for both sides; the loss
    then by |u - v|·apart + apart²/2. A slope by q, of (v - u - loss·v)/|q - mean q|, takes at most 8 times as much.
    What is 0 may be 2^-996.
    """
    if not student.size:
        return np.zeros(row_loss.shape), np.zeros(class_loss.shape), np.zeros(grad.shape)
    of_losses, errors, slopes = [], 0.0, 0.0
    with np.errstate(all="ignore"):
        sides = [x.astype(np.float64) for x in (teacher, student)]
        p, q = (probabilities_of(x, temperature) for x in sides)
        gaps = ((x.max(axis=1, keepdims=True) - x) / temperature for x in sides)
        off_p, off_q = (2.0**-50 * (4 + np.minimum(gap, 1000.0)) for gap in gaps)
        for axis, scale in ((1, row_scale), (0, class_scale)):
            apart, each, units, inverses = 0.0, 0.0, 0.0, []
            for x, error in ((p, off_p * p), (q, off_q * q)):
                direction, inverse = unit(x, axis)
                apart = apart + 2 * np.sqrt((error * error).sum(axis=axis, keepdims=True)) * inverse
                each = each + 2 * (error + error.mean(axis=axis, keepdims=True)) * inverse
                units = units + np.abs(direction)
                inverses.append(inverse)
            loss, slope = correlation(p, q, axis)
            of_losses.append(np.nan_to_num(np.sqrt(2 * loss) * apart + 0.5 * apart**2 + 2.0**-50 * loss))
            step = scale * np.where(inverses[0] == 0, 0.0, inverses[1])
            errors, slopes = errors + 8 * step * (each + apart * units), slopes + np.abs(scale * slope)
        along = (q * errors).sum(axis=1, keepdims=True) + (off_q * q * slopes).sum(axis=1, keepdims=True)
        slopes = slopes + (q * slopes).sum(axis=1, keepdims=True)
        of_grad = (q * (errors + along + off_q * slopes) + 2.0**-990 * (1 + errors + slopes)) / temperature
    return of_losses[0][:, 0], of_losses[1][0], np.nan_to_num(of_grad)


def dist_loss_f64_sample(rng, m, n):
    """Rows of logits that have a softmax, but for one case in eight."""
    student, teacher, _, temperature = taught(rng, m, n)
    temperature = min(max(temperature, 0.05), 20.0)  # past these correlations are of what rounding left
    student, teacher = (x * (1 + 2.0**-40 * rng.standard_normal(x.shape)) for x in (student, teacher))
    if rng.random() < 0.875:
        student, teacher = (np.where((x < np.inf) & (x > -1e30), x, -1.0) for x in (student, teacher))
        student, teacher = (np.where(x > 1e30, 40.0, x) for x in (student, teacher))
    if n > 3:
        teacher[:, 1] = student[:, 1]
        student[:, 2] = -np.inf  # a class that is constant: never
    if rng.random() < 0.2:
        student[...] = student[:1]  # every class is
    return student, teacher, temperature


def dist_loss_grad_f64_sample(rng, m, n):
    return *dist_loss_f64_sample(rng, m, n), *(float(rng.choice([0.0, 1.0, 0.3])) for _ in range(2))


dist_loss_f32_sample = of_float32(dist_loss_f64_sample, 2)
dist_loss_grad_f32_sample = of_float32(dist_loss_grad_f64_sample, 2)
dist_loss_f32, dist_loss_grad_f32, dist_loss_f32_bound = dist_loss_f64, dist_loss_grad_f64, dist_loss_f64_bound


def dist_loss_grad_f32_bound(*operands):
    """The gradient, the last operand, is rounded to float32 once."""
    *of_losses, of_grad = dist_loss_grad_f64_bound(*operands)
    return *of_losses, of_grad + ulp(operands[-1])


LEAST_REST = 2.0**-48


def mass_outside(classes, q):
    inside = np.zeros(q.shape, bool)
    np.put_along_axis(inside, classes, True, axis=1)
    return np.where(inside, 0.0, q).sum(axis=1)


def top_k_kl_f64(student, probabilities, classes, temperature, scale, loss):
    """loss[i] = scale[i]·(Σ_j p_j log(p_j/q_j) + r log(r/R)), r and R what the known p and q leave of 1."""
    top_k_kl_grad_f64(student, probabilities, classes, temperature, scale, loss, np.empty(student.shape))


def top_k_kl_grad_f64(student, probabilities, classes, temperature, scale, loss, grad):
    """The loss, and grad = scale·(q - p)/T where p is known, scale·q·(1 - r/R)/T elsewhere."""
    student, t = student.astype(np.float64), temperature[:, None]
    if student.shape[1] == 0:
        loss[...] = 0.0
        return
    with np.errstate(all="ignore"):
        log_q = log_probabilities(student, t)
        q = held(log_q)
        known_log, known = (np.take_along_axis(x, classes, axis=1) for x in (log_q, q))
        rest, left = 1.0 - probabilities.sum(axis=1), mass_outside(classes, q)
        rest = np.where(rest < LEAST_REST, 0.0, rest)
        loss[...] = scale * (kl_terms(np.log(probabilities), probabilities, known_log, known).sum(axis=1)
                             + kl_terms(np.log(rest), rest, np.log(left), left))
        slopes = q * (1.0 - np.where(left > 0, rest / left, 0.0))[:, None]
        np.put_along_axis(slopes, classes, known - probabilities, axis=1)
        slopes[np.isnan(rest)] = np.nan
        grad[...] = scale[:, None] * slopes / t
    settle(states(student), scale, loss, grad)


def top_k_kl_f64_bound(student, probabilities, classes, temperature, scale, loss):
    no_grad = np.zeros(student.shape)
    return top_k_kl_grad_f64_bound(student, probabilities, classes, temperature, scale, loss, no_grad)[0]


def top_k_kl_grad_f64_bound(student, probabilities, classes, temperature, scale, loss, grad):
    """r is known to the rounding of a sum of k terms, and taken for 0 below LEAST_REST: what that does to
    r log(r/R) - r + R and to q r/R is added."""
    of_loss, of_grad = divergence_grad_f64_bound(student, None, FORWARD_KL, 0.0, temperature, scale, loss, grad)
    if student.shape[1] == 0:
        return of_loss, of_grad
    with np.errstate(all="ignore"):
        q = np.nan_to_num(held(log_probabilities(student.astype(np.float64), temperature[:, None])))
        rest, left = 1.0 - probabilities.sum(axis=1), mass_outside(classes, q)
        rounding = 2.0**-53 * (8 + classes.shape[1])
        cut = np.where(np.abs(rest - LEAST_REST) <= rounding, LEAST_REST, 0.0)
        log_ratio = np.where((rest > LEAST_REST / 2) & (left > 0), np.abs(np.log(rest / left)), 0.0)
        of_ratio = np.where(left > 0, cut / left, 0.0)
    return (of_loss + scale * (rounding * log_ratio + cut * (1 + log_ratio)),
            of_grad + (scale / temperature * of_ratio)[:, None] * q)


def top_k_kl_f64_sample(rng, m, n, k):
    """At most n classes are known. The teacher is near the student in some rows, certain in others."""
    student, teacher, _, _, temperature, scale = divergence_f64_sample(rng, m, n)
    k = min(k, n)
    classes = np.ascontiguousarray(np.argsort(rng.random((m, n)), axis=1)[:, :k])
    teacher = np.where(np.isfinite(teacher), teacher, 0.0)
    with np.errstate(all="ignore"):
        p = np.take_along_axis(np.exp(log_probabilities(teacher, temperature[:, None])), classes, axis=1)
    share = rng.choice([1.0, 1.0, 0.9, 0.0], (m, 1)) if k < n else rng.choice([1.0, 0.5], (m, 1))
    p *= share
    whole = rng.random(m) < 0.2
    p[whole] /= np.maximum(p[whole].sum(axis=1, keepdims=True), 2.0**-60)
    return student, p, classes, temperature, scale


top_k_kl_f32_sample = of_float32(top_k_kl_f64_sample, 1)
top_k_kl_grad_f32_bound = rounded(top_k_kl_grad_f64_bound)
top_k_kl_f32, top_k_kl_grad_f32, top_k_kl_f32_bound = top_k_kl_f64, of_rounded(top_k_kl_grad_f64), top_k_kl_f64_bound
top_k_kl_grad_f32_sample, top_k_kl_grad_f64_sample = top_k_kl_f32_sample, top_k_kl_f64_sample


def softmax_f64(x, temperature, y):
    """y[i, j] = exp(x[i, j]/T[i]) / Σ_l exp(x[i, l]/T[i])."""
    y[...] = np.exp(log_probabilities(x, temperature[:, None]))


def softmax_f64_bound(x, temperature, y):
    with np.errstate(all="ignore"):
        z = (x - x.max(axis=1, keepdims=True, initial=-np.inf)) / temperature[:, None]
        return np.where(np.isfinite(z), 2.0**-50 * (4 + np.abs(z)) * y + np.exp(-690.0), np.exp(-690.0))


def log_softmax_f64(x, temperature, y):
    """y[i, j] = x[i, j]/T[i] - log Σ_l exp(x[i, l]/T[i])."""
    y[...] = log_probabilities(x, temperature[:, None])


def log_softmax_f64_bound(x, temperature, y):
    return 2.0**-48 * np.maximum(1.0, np.abs(np.where(np.isfinite(y), y, 0.0)))


def logsumexp_f64(x, temperature, y):
    """y[i] = log Σ_j exp(x[i, j]/T[i])."""
    top = x.max(axis=1, initial=-np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (x - np.where(top == -np.inf, 0.0, top)[:, None]) / temperature[:, None]
        y[...] = np.where(top == -np.inf, -np.inf, top / temperature + np.log(np.exp(z).sum(axis=1)))
    y[np.isnan(x).any(axis=1) | (top == np.inf)] = np.nan


def softmax_f64_sample(rng, m, n):
    x, temperature = softmax_f32_sample(rng, m, n)
    return x * (1 + 2.0**-40 * rng.standard_normal(x.shape)), temperature * rng.choice([1.0, 2.0], m)


log_softmax_f64_sample, logsumexp_f64_sample = softmax_f64_sample, softmax_f64_sample
logsumexp_f64_bound = log_softmax_f64_bound
