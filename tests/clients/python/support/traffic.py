"""Callers that are under way while something breaks."""

import threading

import grpc

from . import refusal
from .case import PATIENCE_S

# Long enough for an answer on a machine that is busy, unless something is broken.
DEADLINE_S = 1.2


class Traffic:
    """Callers that repeat a call until it fails, and what it failed with.

    Each has a deadline of its own, so that one moment without a free processor is not all of them.
    """

    def __init__(self, call, callers=6):
        self._call, self.refusals = call, []
        arguments = [{"target": self._run, "args": (number,)} for number in range(callers)]
        self._threads = [threading.Thread(**one) for one in arguments]
        self._running = threading.Barrier(callers + 1)

    def _run(self, number):
        deadline_s = DEADLINE_S + 0.2 * number
        self._call(number, PATIENCE_S)
        self._running.wait()
        while True:
            try:
                self._call(number, deadline_s)
            except grpc.RpcError as error:
                self.refusals.append(refusal.of_call(error))
                return

    def start(self):
        for thread in self._threads:
            thread.start()
        self._running.wait()

    def join(self):
        for thread in self._threads:
            thread.join()
