"""What the tests of a Python client share.

`stubs` has the generated client, `scene` says which router to talk to and can break its servers,
`refusal` reads what a router said no with, and `case` is the class all tests derive from; where bad
input must not reach a database it is `untouched`. `limits` has the numbers of the contract, and
`traffic` keeps callers going while something breaks.

By hand, against a router that runs already (no faults, nothing counted):

    FREEHOLD_ADDRESS=127.0.0.1:7420 python -m unittest -v test_methods
"""
