"""Would a TFLite model run whole, and right, on a delegate? Answered from the file alone.

Each rule is a fact about an accelerator that was measured (docs/delegates.md) or is in its source.
`tfsnap.export.delegate` asks the real accelerator instead, where there is one.
"""
