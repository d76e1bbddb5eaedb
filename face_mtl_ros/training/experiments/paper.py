"""What the paper reports (Barros et al. 2019, section IV): accuracies in %, and the literature's beside them.

Sources are named in one order, that of TASKS. No torch here.
"""

TASKS = ("emotion", "age", "gender", "identity")

# Table IV: mean and standard error of ten runs.
FROZEN = {"emotion": (83.66, 0.27), "age": (84.01, 0.46), "gender": (90.78, 0.79), "identity": (91.20, 6.00)}
RETRAINED = {"emotion": (84.3, 0.36), "age": (85.12, 0.45), "gender": (90.21, 0.31), "identity": (93.96, 4.52)}

# Table V: target to its source columns to the mean; the table gives no errors.
PROGRESSIVE: dict[str, dict[tuple[str, ...], float]] = {
    "emotion": {
        ("age",): 85.7,
        ("gender",): 86.8,
        ("identity",): 80.32,
        ("age", "gender"): 90.41,
        ("age", "identity"): 82.51,
        ("gender", "identity"): 76.30,
        ("age", "gender", "identity"): 86.32,
    },
    "age": {
        ("emotion",): 84.20,
        ("gender",): 86.36,
        ("identity",): 71.80,
        ("emotion", "gender"): 90.31,
        ("emotion", "identity"): 79.36,
        ("gender", "identity"): 45.63,
        ("emotion", "gender", "identity"): 81.65,
    },
    "gender": {
        ("emotion",): 92.27,
        ("age",): 89.42,
        ("identity",): 83.21,
        ("emotion", "age"): 93.02,
        ("emotion", "identity"): 86.19,
        ("age", "identity"): 87.91,
        ("emotion", "age", "identity"): 90.45,
    },
    "identity": {
        ("emotion",): 87.32,
        ("age",): 82.50,
        ("gender",): 89.43,
        ("emotion", "age"): 90.45,
        ("emotion", "gender"): 93.10,
        ("age", "gender"): 92.54,
        ("emotion", "age", "gender"): 89.27,
    },
}

# Table VI: the best rows, of which identity's is 93.10 in Table V and 93.20 here, and what they are compared with.
BEST: dict[str, tuple[tuple[str, ...], float]] = {
    "emotion": (("age", "gender"), 90.41),
    "age": (("emotion", "gender"), 90.31),
    "gender": (("emotion", "age"), 93.02),
    "identity": (("emotion", "gender"), 93.20),
}
LITERATURE = {
    "emotion": ("Ensemble of features (Georgescu et al. 2018)", 87.76),
    "age": ("Deep CNN (Levi and Hassner 2015)", 84.70),
    "gender": ("Deep CNN (Jalal and Tariq 2017)", 87.95),
    "identity": ("OpenFace (Amos et al. 2016)", 95.00),
}
