# %% [markdown]
# # One's own hospital's table
# A CSV file with a row for each image, and the pictures beside it, is all that is needed. Here both are made of synthetic
# radiographs, so that the script runs anywhere; put your own in `our-hospital` and leave the first cell out.

# %%
import csv
from pathlib import Path

import numpy as np

import retune

FINDINGS = ["Cardiomegaly", "Edema", "Pleural Effusion", "Atelectasis"]
folder = Path("our-hospital")
if not folder.exists():
    made = retune.registry("datasets").load("phantom")(images=800).read(None)
    columns = [made.labels.index(finding) for finding in FINDINGS]
    folder.mkdir()
    rows = np.arange(len(made.image_id))
    for name, picture in zip(made.image_id, made.images.load(rows), strict=True):
        picture.save(folder / f"{name}.png")
    with (folder / "labels.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "patient", "sex", "site", *FINDINGS])
        for row in rows:
            # 1 present, 0 absent, blank where nobody looked.
            told = ["" if np.isnan(x) else int(x) for x in made.targets[row, columns]]
            of = [made.columns[name][row] for name in ("sex", "site")]
            table.writerow([f"{made.image_id[row]}.png", made.patient_id[row], *of, *told])

# %% [markdown]
# Look before learning: this counts patients and labels, names what is missing, and decodes every picture. Splits are by
# patient, from a hash: who is in the test set stays there when rows are added.

# %%
from retune.cli.main import main

assert main(["data", "check", "csv", "--root", str(folder), "--decode", "all"]) == 0

# %% [markdown]
# Site after site, as patients arrive; each experience shows every label. The frozen backbone here is the small synthetic
# one that comes with retune; for radiographs take `--backbone biomedclip` or another that `retune list` names.

# %%
asked = {
    "data": "csv",
    "root": str(folder),
    "scenario": "data-incremental",
    "settings": {"scenario.by": "site"},
}
result = retune.run(strategy="ridge", out="our-hospital-ridge", **asked)
print(result)
print(result.dataset.n_train, "images to learn from,", result.dataset.n_test_patients, "patients to test on")
for experience in result.scenario.experiences:
    print(experience.n_train, "images of", experience.holds["site"])
result.plot().save("own-table.png")

# %% [markdown]
# May the last update go live? The audit reads the scores that the run kept: calls that turned, group by group.

# %%
main(["audit", "our-hospital-ridge"])

# %% [markdown]
# Next: where columns have other names, or labels are written otherwise, `retune new dataset our-hospital` writes a reader
# of forty lines to change, and `retune check dataset` holds it to what a data set must keep.
