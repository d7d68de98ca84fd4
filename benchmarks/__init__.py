"""What the product costs, each figure beside a floor measured in the same run. Goals, no gates.

`python -m benchmarks` runs all, `python -m benchmarks redirect chat` some; FORMAT=json prints JSON.
"""
