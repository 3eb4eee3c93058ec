# %% [markdown]
# # A first comparison
# Which method gains most over the frozen model, and which forgets? Four methods learn fourteen findings in five steps, on
# synthetic radiographs that this makes and encodes once (about a minute on two cores; the same call again takes seconds).
# Nothing here says anything about patients.

# %%
import retune

table = retune.suite(
    strategies=["zero-shot", "linear-probe/trunk", "re-tune", "joint"],
    scenarios=["class-incremental"],
    seeds=3,
    settings={"data.images": 1200},
    out="first-comparison",
)
print(table)

# %% [markdown]
# A row is a mean over seeds: `final_auc` over all findings at the end, `forgetting` the fall from each one's best.
# `zero-shot` never learns and `joint` sees everything at once: the methods in between are to be judged against both.
# A difference means something where its interval leaves out 0; `detectable` is the smallest one that this test set shows.

# %%
print(table.best())
print(table.compare("re-tune", "linear-probe/trunk").iloc[0], "\n")
print(table.compare("joint", "re-tune").iloc[0], "\n")

# %%
table.plot().save("first-comparison.png")

# %% [markdown]
# One of the runs, finding by finding. `linear-probe/trunk` trains one layer that all findings share, so that each step
# moves what earlier steps learnt.

# %%
shared = next(run.result for run in table.runs if run.strategy == "linear-probe/trunk")
frame = shared.to_frame()
end = frame[frame.moment == frame.moment.max()].set_index("label").auc
best = frame[frame.learnt].groupby("label").auc.max()
print((best - end).dropna().sort_values(ascending=False).head(3).round(3))
shared.plot().save("one-run.png")

# %% [markdown]
# Next: the same on the command line is `retune suite --strategy zero-shot --strategy re-tune ... --seeds 3`, and
# `retune report first-comparison` writes one page with every figure.
