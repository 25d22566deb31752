"""Tests whose requests must not reach a database."""

from . import scene
from .case import Case


class Untouched(Case):
    """Counts the statements that routers send and databases get; every test leaves both alone."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        scene.direct("watch")

    def setUp(self):
        super().setUp()
        before = self.touched()
        # The measure itself is tried: what is good input does reach a database.
        self.get(self.key())
        self.before = self.touched()
        self.assertGreater(self.before, before, "nothing was counted")

    def tearDown(self):
        self.assertEqual(self.touched(), self.before, "bad input has reached a database")

    @staticmethod
    def touched():
        return int(scene.direct("touched"))
