# %% [markdown]
# # A stream of one's own
# A scenario says which images and labels an experience shows. This begins from one in which the youngest patients come
# first, and asks whether what was learnt of the young holds for the old.

# %%
from pathlib import Path

import retune

file = Path("young_to_old.py")
if not file.exists():
    retune.new_scenario("young-to-old", file)
print(file.read_text())

# %% [markdown]
# Held to its contract: a patient never comes in two experiences, test patients in none, hidden labels are unknown, the
# same seed gives the same stream. And looked at, before anything learns.

# %%
report = retune.check_scenario(str(file))
print(f"{len(report.findings)} demands, kept: {report.passed}")

dataset = retune.registry("datasets").load("phantom")(images=1200).read(None)
stream = retune.registry("scenarios").load(str(file))(steps=3).stream(dataset, seed=0)
for experience in stream.experiences:
    ages = dataset.columns["age"][experience.rows]
    print(
        f"experience {experience.step}: {len(experience)} images, ages {ages.min():.0f} to {ages.max():.0f}"
    )

# %%
table = retune.suite(
    strategies=["zero-shot", "linear-probe/trunk", "ridge", "joint"],
    scenarios=[str(file)],
    seeds=2,
    settings={"data.images": 1200},
    out="own-stream",
)
print(table)
table.plot().save("own-stream.png")

# %% [markdown]
# Every experience shows all labels here, so there is no label to forget; what may be lost is how well the young are still
# read. The audit tells it by age band, update by update.

# %%
from retune.cli.main import main

main(["audit", str(next(run.folder for run in table.runs if run.strategy == "linear-probe/trunk"))])
