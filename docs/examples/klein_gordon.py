"""u_tt = u_xx - m^2 u on [0, 1), periodic: every Fourier mode is an oscillator, solved exactly."""

import numpy as np


def solve(parameters, seed, shape, num_steps, dt):
    a, b, phase = np.random.default_rng(seed).normal(size=(3, 6))
    k = 2 * np.pi * np.arange(6)
    omega = np.sqrt(k**2 + parameters["mass"] ** 2)
    waves = np.cos(np.outer(np.arange(shape[0]) / shape[0], k) + phase)  # [n, 6]
    for t in dt * np.arange(num_steps + 1):
        cos, sin = np.cos(omega * t), np.sin(omega * t)
        u, v = waves @ (a * cos + b * sin), waves @ (omega * (b * cos - a * sin))
        yield t, {"displacement": u, "velocity": v}
