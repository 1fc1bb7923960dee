"""Keras 3 the way its documentation shows it: the same layers in a Sequential model, compiled, fitted.

KERAS_BACKEND decides what computes. It starts from our initial weights; of an LSTM's two biases Keras has the sum, so
it counts one vector less. Texts are padded on the left, as `pad_sequences` does, which spares it a mask.
"""

import sys
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers
from torch import Tensor, nn

from peers.task import Parts, Task, prepare
from peers.worker import Gate, take_part
from train_smarter.data.examples import SplitName
from train_smarter.data.image_data import ImageData

Array = npt.NDArray[Any]


def run(task: Task, gate: Gate) -> None:
    if task.device == "cuda" and keras.backend.backend() == "tensorflow":
        find_gpu()
    keras.utils.set_random_seed(1)
    parts = prepare(task)
    model, batch_size = compiled(parts), parts.data.batch_size
    (images, labels), (test_images, test_labels) = arrays(parts, "train"), arrays(parts, "test")

    def epoch(number: int) -> None:
        model.fit(images, labels, batch_size=batch_size, initial_epoch=number, epochs=number + 1)

    def accuracy() -> float:
        return float(model.evaluate(test_images, test_labels, batch_size=512, return_dict=True)["accuracy"])

    take_part(task, gate, epoch=epoch, accuracy=accuracy, parameters=model.count_params())


def find_gpu() -> None:
    """Ends the process where TensorFlow would go on without one."""
    import tensorflow

    if not tensorflow.config.list_physical_devices("GPU"):
        sys.exit("TensorFlow finds no GPU: uv pip install 'tensorflow[and-cuda]'")


def compiled(parts: Parts) -> Any:
    """The model with our weights, optimizer, schedule and clipping."""
    model = keras.Sequential([*of_images(parts), *dense(parts)] if parts.images else of_texts(parts))
    take_weights(model, parts.model)
    rate: Any = float(parts.cfg.optimizer.lr)
    if parts.model.scheduler is not None:
        rate = keras.optimizers.schedules.CosineDecay(rate, len(parts.batches()) * parts.task.epochs)
    optimizer = keras.optimizers.Adam(rate, epsilon=1e-8, global_clipnorm=parts.cfg.trainer.gradient_clip_val)
    if parts.binary:
        loss: Any = keras.losses.BinaryCrossentropy(from_logits=True)
        accuracy: Any = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
    else:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        accuracy = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(optimizer=optimizer, loss=loss, metrics=[accuracy])
    return model


def of_images(parts: Parts) -> list[Any]:
    """Input, augmentation and normalisation, as layers of the model."""
    assert isinstance(parts.data, ImageData)
    channels, height, width = parts.data.shape
    made: list[Any] = [layers.Input((height, width, channels))]
    augment = parts.cfg.data.augment
    if augment.rotation.degrees:
        turn = augment.rotation.degrees / 360
        made += [layers.RandomRotation(turn, fill_mode="constant", interpolation="nearest")]
    if augment.flip.p:
        made += [layers.RandomFlip("horizontal")]
    mean, std = parts.data.mean[0], parts.data.std[0]
    return [*made, layers.Rescaling(1 / (255 * std), offset=-mean / std)]


def dense(parts: Parts) -> list[Any]:
    """Our layers of convolutions and matrices, one by one."""
    made: list[Any] = []
    for layer in parts.model.modules():
        match layer:
            case nn.Conv2d():
                made += [layers.Conv2D(layer.out_channels, layer.kernel_size)]
            case nn.Linear():
                made += [layers.Dense(layer.out_features)]
            case nn.ReLU():
                made += [layers.ReLU()]
            case nn.MaxPool2d():
                made += [layers.MaxPooling2D(2)]
            case nn.Flatten():
                made += [layers.Flatten()]
            case nn.Dropout():
                made += [layers.Dropout(layer.p)]
    return made


def of_texts(parts: Parts) -> list[Any]:
    model = parts.cfg.model
    return [
        layers.Input((parts.cfg.data.max_length,), dtype="int32"),
        layers.Embedding(model.vocab_size, model.embedding_dim),
        layers.Dropout(model.dropout),
        layers.LSTM(model.hidden),
        layers.Dense(model.fc_dim, activation="relu"),
        layers.Dropout(model.dropout),
        layers.Dense(1),
    ]


def take_weights(model: Any, ours: nn.Module) -> None:
    """Our initial weights in Keras's order of axes."""
    maps, given = 0, iter(layer for layer in model.layers if layer.weights and not is_random(layer))
    for layer in ours.modules():
        match layer:
            case nn.Conv2d():
                maps = layer.out_channels
                next(given).set_weights([array(layer.weight).transpose(2, 3, 1, 0), array(layer.bias)])
            case nn.Linear():
                weight = array(layer.weight)
                if maps:  # behind a flattened (C, H, W), which is (H, W, C) there
                    side = round((weight.shape[1] / maps) ** 0.5)
                    weight = weight.reshape(-1, maps, side, side).transpose(0, 2, 3, 1).reshape(len(weight), -1)
                    maps = 0
                next(given).set_weights([weight.T, array(layer.bias)])
            case nn.Embedding():
                next(given).set_weights([array(layer.weight)])
            case nn.LSTM():
                bias = array(layer.bias_ih_l0) + array(layer.bias_hh_l0)
                next(given).set_weights([array(layer.weight_ih_l0).T, array(layer.weight_hh_l0).T, bias])


def is_random(layer: Any) -> bool:
    """Whether a layer's only weights are the state of its random numbers."""
    return isinstance(layer, layers.Dropout | layers.RandomRotation | layers.RandomFlip)


def array(tensor: Any) -> Array:
    assert isinstance(tensor, Tensor)
    return tensor.detach().numpy()


def arrays(parts: Parts, split: SplitName) -> tuple[Array, Array]:
    """A split as Keras takes it: images (N, H, W, C), texts padded on the left."""
    examples = parts.data.examples[split]
    inputs, labels = examples.inputs, examples.targets.numpy()
    if parts.images:
        return np.ascontiguousarray(inputs.permute(0, 2, 3, 1).numpy()), labels
    padding = (inputs == 0).long()
    return inputs.gather(1, (1 - padding).argsort(stable=True, dim=1)).numpy().astype(np.int32), labels
