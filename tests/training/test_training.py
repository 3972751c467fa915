"""The training code, on pictures made here: `make test-training` (torch is in no other environment)."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is missing: make test-training")

from torch import nn  # noqa: E402

from models.training import detector, embedder, landmarks, scenes, warm  # noqa: E402
from models.training.run import Run, pixels  # noqa: E402

pytestmark = pytest.mark.timeout(300)
MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(3)
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", sorted(warm.MODELS))
def test_a_module_filled_from_the_pack_answers_as_the_file_does(name: str) -> None:
    import importlib

    module_name, class_name = warm.MODELS[name]
    module = getattr(importlib.import_module(module_name), class_name)()
    size = (128, 160) if name == "detector" else warm_size(name)
    # Of pictures without a face the embedder's centred answers are short, and int8's noise is most of them.
    pictures = one_face() if name == "embedder" else faces_and_noise(size)
    nearness = warm.start(module, MODELS / f"{name}.tflite", pictures)
    assert min(cosine for cosine, _ in nearness) > 0.97


def test_a_file_of_other_layers_is_refused_with_its_shapes() -> None:
    with pytest.raises(ValueError, match="no \\(further\\) layer of shape"):
        warm.start(detector.Detector(), MODELS / "embedder.tflite", torch.zeros(1, 3, 128, 160))


def test_what_batch_norms_measure_anew_changes_no_answer() -> None:
    module = embedder.Embedder().eval()
    pictures = faces_and_noise((112, 112))
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.normal_()
        before = module(pictures)
        warm.adapt(module, pictures)
        after = module(pictures)
    assert torch.allclose(before, after, atol=1e-3 * float(before.abs().max()))
    first = module.body[0][1]
    assert first.running_mean.abs().max() > 0


def test_rounding_moves_an_activation_by_a_step_and_a_half_at_most_and_lets_gradients_pass() -> None:
    x = torch.randn(64, 8, 7, 7).relu().requires_grad_()
    step = float(x.detach().flatten(1).amax(1).quantile(0.98)) / 255
    made = embedder.rounded(x)
    assert float((made - x).detach().abs().max()) <= 1.5 * step * 1.001
    assert float((made - x).detach().abs().max()) > 0.5 * step
    made.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


def test_maps_are_rounded_while_training_only() -> None:
    model = embedder.Embedder()
    embedder.round_while_training(model)
    pictures = faces_and_noise((112, 112))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 0.0
        plain = [model.eval().body(pictures) for _ in range(2)]
        noisy = [model.train().body(pictures) for _ in range(2)]
    assert torch.equal(*plain)
    assert not torch.equal(*noisy)


def test_the_embedding_is_the_sum_of_what_each_place_adds() -> None:
    model = embedder.Embedder().eval()
    pictures = faces_and_noise((112, 112))
    with torch.no_grad():
        whole, shares = model.shares(model.body(pictures))
        assert shares.shape == (len(pictures), 49, 128)
        assert torch.allclose(whole, model(pictures), atol=1e-5)


def test_a_tail_put_back_answers_as_the_tail_does() -> None:
    model = embedder.Embedder().eval()
    maps = model.body[: -embedder.TAIL](faces_and_noise((112, 112))).detach()
    tail = embedder.Tail(model)
    with torch.no_grad():
        for conv in tail.convs:
            conv.bias.add_(0.05)
        tail.write_back(model)
        ours = model.project(model.where(model.body[-embedder.TAIL :](maps))).flatten(1)
        theirs = tail(maps)
    assert float(nn.functional.cosine_similarity(ours, theirs).min()) > 0.98


def test_evening_out_keeps_the_answer_and_puts_a_dead_channel_to_rest() -> None:
    model = embedder.Embedder().eval()
    with torch.no_grad():
        model.where.weight[5] = 0
        maps = model.body(faces_and_noise((112, 112)))
        before = model.project(model.where(maps)).flatten(1)
        embedder.even_out(model, maps)
        met = model.where(maps).flatten(1)
        after = model.project(model.where(maps)).flatten(1)
    assert float(nn.functional.cosine_similarity(before, after).min()) > 0.999
    assert float(met.abs().max()) < 10
    assert not met[:, 5].any()


def test_even_ranges_keep_the_answer() -> None:
    torch.manual_seed(3)
    model, pictures = embedder.Embedder().eval(), faces_and_noise((112, 112))
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.05, 2.0)
                part.bias.normal_(0, 0.3)
        before, spans = model(pictures), model.where(model.body(pictures)).abs().amax((0, 2, 3))
        embedder.even_ranges(model, pictures, 0.5)
        after, evened = model(pictures), model.where(model.body(pictures)).abs().amax((0, 2, 3))
    assert torch.allclose(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))
    assert float(evened.max() / evened.median()) < 1.3 < float(spans.max() / spans.median())


def test_answers_are_centred_on_all_sources_alike() -> None:
    torch.manual_seed(4)
    rng = np.random.default_rng(4)
    model = embedder.Embedder().eval()
    # Sources of other levels and sizes: the larger one must not count for more.
    sets = [rng.integers(low, low + 60, (count, 128, 128, 3), np.uint8) for low, count in ((0, 3), (190, 7))]
    embedder.centre_answers(model, sets)

    def mean(chips: np.ndarray) -> torch.Tensor:
        both = [pixels(embedder.centre(np.ascontiguousarray(side), 112)) for side in (chips, chips[:, :, ::-1])]
        return torch.cat([model(side) for side in both]).mean(0)

    with torch.no_grad():
        dark, bright = (mean(chips) for chips in sets)
    assert float(dark.abs().max()) > 0
    assert float((dark + bright).abs().max()) < 1e-3 * float(dark.abs().max())


def test_muon_turns_a_step_into_one_of_even_length_in_every_direction() -> None:
    values = torch.linalg.svdvals(embedder._orthogonal(torch.randn(24, 60)))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_two_processes_train_one_embedder(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    count = 160
    answers = rng.normal(size=(count, 2, 128)).astype(np.float32)
    np.save(tmp_path / "faces.npy", rng.integers(0, 256, (count, 128, 128, 3), np.uint8))
    np.save(tmp_path / "faces.teacher.npy", answers / np.linalg.norm(answers, axis=-1, keepdims=True))
    np.save(tmp_path / "faces.shares.npy", rng.integers(-20, 21, (count, 2, 49, 128), np.int8))
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = ["--faces", tmp_path, "--out", tmp_path, "--data", tmp_path, "--minutes", "0.1", "--look-s", "2"]
    given += ["--start", MODELS / "embedder.tflite"]
    command = [*start, "-m", "--", "models.training.embedder", *map(str, given)]
    said = subprocess.run(command, cwd=MODELS.parent, capture_output=True, text=True, timeout=240, check=True)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["images"] % (2 * embedder.BATCH) == 0
    assert state["seconds"] >= 0.1 * 60
    reports = [line for line in said.stdout.splitlines() if "held-out cosine" in line]
    assert reports
    assert f" {state['images']} images" in reports[-1]


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    def begin() -> Run:
        torch.manual_seed(5)
        model = nn.Linear(4, 1)
        return Run.begin(tmp_path / "state.pt", model, [{"params": list(model.parameters())}], 1e-2)

    def learn(run: Run, step: int) -> None:
        x = torch.from_numpy(np.random.default_rng(step).normal(size=(8, 4)).astype(np.float32))
        loss = (run.model(x) - x.sum(1, keepdim=True)).square().mean()
        run.learn(loss, {"loss": loss}, len(x))

    whole = begin()
    for step in range(20):
        learn(whole, step)
    (tmp_path / "state.pt").unlink(missing_ok=True)
    half = begin()
    for step in range(10):
        learn(half, step)
    half.save()
    resumed = begin()
    assert (resumed.step, resumed.images) == (10, 80)
    for step in range(10, 20):
        learn(resumed, step)
    assert torch.equal(whole.model.weight, resumed.model.weight)
    assert torch.equal(whole.average.module.weight, resumed.average.module.weight)


def test_the_goal_of_a_mirrored_picture_is_the_mirrored_goal() -> None:
    box = np.array([40.0, 30.0, 80.0, 84.0])
    keypoints = np.array([[52.0, 50.0], [70.0, 48.0], [61.0, 60.0], [53.0, 72.0], [69.0, 71.0]])
    there = keypoints[[1, 0, 2, 4, 3]] * [-1, 1] + [detector.WIDTH, 0]
    mirror = np.array([detector.WIDTH - box[2], box[1], detector.WIDTH - box[0], box[3]])
    picture = np.random.default_rng(1).integers(1, 255, (detector.HEIGHT, detector.WIDTH, 3), np.uint8)
    wanted = detector.targets([(mirror, there, 0.0)])
    goal = detector.targets([(box, keypoints, 0.0)])
    seen = [detector._mirrored(np.random.default_rng(seed), picture, *goal)[1:] for seed in range(8)]
    flipped = [made for made in seen if not np.array_equal(made[0], goal[0])]
    assert flipped
    for made in flipped:
        near = wanted[2] > 0
        np.testing.assert_allclose(made[0], wanted[0], atol=1e-5)
        np.testing.assert_allclose(made[1][near], wanted[1][near], atol=1e-4)


def test_the_detector_learns_one_picture_by_heart() -> None:
    box, keypoints = np.array([60.0, 40.0, 100.0, 90.0]), np.tile([80.0, 65.0], (5, 1))
    picture = np.zeros((detector.HEIGHT, detector.WIDTH, 3), np.uint8)
    picture[40:90, 60:100] = 200
    goal = [torch.from_numpy(part)[None] for part in detector.targets([(box, keypoints, 0.0)])]
    model, x = detector.Detector(), pixels(torch.from_numpy(picture)[None])
    optimiser = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(60):
        score, error = detector.loss_of(model(x), *goal)
        optimiser.zero_grad()
        (score + error).backward()
        optimiser.step()
    with torch.no_grad():
        (found, where, _), *others = detector.decode(model.eval()(x)[0].numpy(), 0.5)
    assert found > 0.5
    assert not others
    assert detector.iou(where, box) > 0.6


def test_what_the_detector_takes_for_a_face_is_cut_with_it_in_the_middle_and_taught_as_none() -> None:
    face, rng = cv2.imread(str(MODELS / "bench.jpg"), cv2.IMREAD_COLOR_RGB), np.random.default_rng(5)
    room = cv2.copyMakeBorder(cv2.resize(face, (160, 160)), 40, 40, 80, 80, cv2.BORDER_REPLICATE)
    assert not landmarks.find_lures([np.full((216, 288, 3), 90, np.uint8)], 20)
    lures = landmarks.find_lures([room], 40)
    assert lures
    for lure in lures:
        assert lure.picture.shape == (landmarks.LURE_PX, landmarks.LURE_PX, 3)
        assert np.abs(lure.keypoints.mean(axis=0) - landmarks.LURE_PX / 2).max() < landmarks.LURE_PX / 6
        picture, points, presence, openness = landmarks.lured(rng, lure)
        assert (picture.shape, points.shape, openness.shape) == ((128, 128, 3), (138, 2), (3,))
        assert presence == 0


def test_a_room_stays_a_picture_however_it_is_changed() -> None:
    rng = np.random.default_rng(8)
    rooms = [rng.integers(0, 256, (90, 130, 3), np.uint8) for _ in range(3)]
    for _ in range(50):
        made = scenes.room_background(rng, rooms, 64, 48)
        assert made.shape == (48, 64, 3)
        assert made.dtype == np.float32
        assert made.flags.c_contiguous
        assert 0 <= made.min() <= made.max() <= 255


def warm_size(name: str) -> tuple[int, int]:
    from edge.vision.pack import Pack

    manifest = Pack.load(MODELS).manifest
    shape = getattr(manifest, name).input.shape
    return shape[1], shape[2]


def one_face() -> torch.Tensor:
    """Sixteen pictures [16, 3, 112, 112] of the face that the bench shows."""
    face = cv2.resize(cv2.imread(str(MODELS / "bench.jpg"), cv2.IMREAD_COLOR_RGB), (128, 128))
    rng = np.random.default_rng(6)
    return pixels(torch.from_numpy(np.stack([embedder.augment(face, 112, rng) for _ in range(16)])))


def faces_and_noise(size: tuple[int, int]) -> "torch.Tensor":
    """Smooth random pictures [16, 3, h, w] in -1..1: near enough to photographs to set batch norms."""
    coarse = torch.rand(16, 3, 9, 9)
    smooth = nn.functional.interpolate(coarse, size, mode="bilinear") * 2 - 1
    return (smooth + 0.1 * torch.randn_like(smooth)).clamp(-1, 1)
