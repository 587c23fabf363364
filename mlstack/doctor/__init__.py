"""The command `doctor`: is this machine able to, and what to type where it is not.

Reads: the machine, the installed packages, and the project when there is one. Writes nothing that
stays, but for the run of a `train --check` that is red. What needs torch or onnxruntime is asked of
`doctor/worker`, in processes of its own, and what may hang is given a limit.
"""
