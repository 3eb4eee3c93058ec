# %% [markdown]
# # A method of one's own, with a memory
# One file, one class: nothing to register or install. This begins from a method that keeps a few past images as vectors,
# holds it to the contract that every method here keeps, and asks what the memory is worth, and whom it tells.

# %%
from pathlib import Path

import retune

file = Path("keeps_few.py")
if not file.exists():
    retune.new_strategy("keeps-few", file, memory=True)
print(file.read_text())

# %% [markdown]
# `fit` is called once an experience, `score` at every moment for every label; `state_dict` holds all that was learnt, so
# that a run that is killed goes on to the same bits. `SampleMemory` keeps samples evenly over patients, and what lies
# under `memory.` in the state is metered: privacy is part of every result.

# %%
report = retune.check_strategy(str(file))
print(f"{len(report.findings)} demands, kept: {report.passed}")

# %%
table = retune.suite(
    strategies=[
        {"strategy": str(file), "name": "a memory of one", "set": {"memory": 1}},
        {"strategy": str(file), "name": "a memory of 200", "set": {"memory": 200}},
        "joint",
    ],
    scenarios=["class-incremental"],
    seeds=2,
    settings={"data.images": 1200},
    out="own-method",
)
print(table)
print(table.compare("a memory of 200", "a memory of one").iloc[0], "\n")
table.plot().save("own-method.png")

# %% [markdown]
# What is kept can tell who somebody is. `rank_one` is how often the closest kept vector to another picture of the same
# patient is that patient's; `chance` is what guessing gives.

# %%
keeps = next(run.result for run in table.runs if run.strategy == "a memory of 200")
print(f"kept: {keeps.cost.stored_features} vectors, {keeps.cost.stored_bytes:,} bytes")
for where, found in keeps.identification.items():
    print(
        f"{where}: {found.rank_one:.3f} ({found.low:.3f} to {found.high:.3f}), by chance {found.chance:.4f}"
    )

# %% [markdown]
# Next: `retune submit own-method --method keeps-few` writes what the leaderboard needs of it.
