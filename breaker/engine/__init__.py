"""The circuit-breaker engine: policy, window, machine, circuit, sync and stores. It knows no Django and no HTTP.

The parts read as a sentence: the *policy* says what we want, the *window* counts, the *machine* decides, the *circuit*
guards, the *stores* remember, and *sync* carries news between them.
"""
