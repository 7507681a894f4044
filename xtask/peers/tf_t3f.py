"""t3f: `t3f.matmul` of dense frames with a TT-matrix, the whole pass one `tf.function`."""

import importlib.metadata

import numpy as np
import t3f
import tensorflow as tf


class T3f:
    def __init__(self, case, threads):
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self.case = case
        self.x = tf.constant(case.pixels())  # [B, T, M]
        self.r = tf.constant(case.tensor("r"))
        self.cores = [tf.Variable(core) for core in case.cores()]
        self.u, self.b = tf.Variable(case.tensor("u")), tf.Variable(case.tensor("b"))
        self.graph_forward = tf.function(self.hidden)
        self.graph_step = tf.function(self.gradients)

    def versions(self):
        return {"tensorflow": tf.__version__, "t3f": importlib.metadata.version("t3f")}

    def hidden(self, x):
        case = self.case
        matrix = t3f.TensorTrain([tf.convert_to_tensor(core) for core in self.cores])
        gates = t3f.matmul(tf.reshape(x, [-1, case.features]), matrix) + self.b
        steps = tf.unstack(tf.reshape(gates, [case.batch, case.frames, -1]), axis=1)
        return (gru if case.cell == "gru" else lstm)(steps, self.u)

    def gradients(self, x, r):
        with tf.GradientTape() as tape:
            h = self.hidden(x)
            loss = tf.reduce_sum(h * r)
        return h, tape.gradient(loss, [*self.cores, self.u, self.b])

    def forward(self):
        return self.graph_forward(self.x).numpy()

    def step(self):
        h, gradients = self.graph_step(self.x, self.r)
        return h.numpy(), [gradient.numpy() for gradient in gradients]

    def outputs(self):
        h, (*cores, u, b) = self.step()
        np.testing.assert_allclose(self.forward(), h, rtol=1e-4, atol=1e-5)
        return {"h": h, "d_cores": self.case.flat_cores(cores), "d_u": u, "d_b": b}


def gru(steps, u):
    """Reset before U, order [z | r | h]."""
    n = u.shape[0]
    u_zr, u_h = u[:, : 2 * n], u[:, 2 * n :]
    h = tf.zeros([steps[0].shape[0], n])
    for gates in steps:
        z, r = tf.split(tf.sigmoid(gates[:, : 2 * n] + h @ u_zr), 2, 1)
        c = tf.tanh(gates[:, 2 * n :] + (r * h) @ u_h)
        h = z * h + (1 - z) * c
    return h


def lstm(steps, u):
    """Order [i | f | g | o]."""
    h = c = tf.zeros([steps[0].shape[0], u.shape[0]])
    for gates in steps:
        i, f, g, o = tf.split(gates + h @ u, 4, 1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return h
