#!/usr/bin/env python3
"""The worker: trains, evaluates and saves the results. It runs the same way here and on the grid.

The example learns to read handwritten digits. To make it yours, replace load_data, train and evaluate. Then give
train_and_evaluate the parameters that you need, and add an option for each to my_script.py. The options belong to the
starter; this script takes plain values, in the order of train_and_evaluate:  python my_script_local.py 0.002 [128] 5
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from experiment.run import Progress, Run
from grid import typecast


def load_data(seed):
    """Return the training, validation and test set. Each is a pair: the images, and the digits that they show."""
    images, digits = load_digits(return_X_y=True)  # 1,797 images of 8 x 8 pixels, from 0 (white) to 16 (black)
    rest, test = split(images / 16, digits, 360, seed)
    training, validation = split(*rest, 240, seed)
    return training, validation, test


def split(images, digits, size, seed):
    """Take `size` images out of a set, with the same share of each digit. Return the rest and the images taken."""
    parts = train_test_split(images, digits, test_size=size, stratify=digits, random_state=seed)
    return parts[0::2], parts[1::2]


def train(training, validation, learning_rate, hidden_layers, epochs, batch_size, seed):
    """Return a trained model, and its metrics after each epoch."""
    model = MLPClassifier(
        hidden_layer_sizes=hidden_layers,
        learning_rate_init=learning_rate,
        batch_size=batch_size,
        random_state=np.random.RandomState(seed),
    )
    progress = Progress(epochs)
    for _ in progress:
        model.partial_fit(*training, classes=range(10))
        progress.report(training=evaluate(model, training), validation=evaluate(model, validation))
    return model, progress.history


def evaluate(model, data):
    """Return the metrics of the model on a set."""
    images, digits = data
    probabilities = model.predict_proba(images)
    return {"accuracy": accuracy_score(digits, probabilities.argmax(axis=1)), "loss": log_loss(digits, probabilities)}


def train_and_evaluate(learning_rate=0.002, hidden_layers=[128], epochs=30, batch_size=32, seed=0):
    """Train a model, test it on images that it has never seen, and save everything in a new folder in results/."""
    run = Run(parameters=locals())
    training, validation, test = load_data(seed)
    model, history = train(training, validation, learning_rate, hidden_layers, epochs, batch_size, seed)

    images, digits = test
    run.save_model(model)
    run.plot_learning_curve(history)
    run.plot_confusion_matrix(digits, model.predict(images))
    run.finish(evaluate(model, test))


if __name__ == "__main__":
    train_and_evaluate(*typecast())
