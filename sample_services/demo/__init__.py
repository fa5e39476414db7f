"""The demo: a coordinator and the sample services as real processes, and sagas that go well and that do not.

`sample` says what a sample brings, `processes` starts and ends processes, `stage` is what scenes play on, `show`
prints, `hints` tells what to try by hand. A sample's own scenes stand beside its services, for instance in
`sample_services/orders/demo.py`; `__main__` lists the samples.
"""
