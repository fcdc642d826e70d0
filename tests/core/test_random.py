"""The generator, and what is drawn from it: right in distribution, repeatable, and one piece of state."""

import threading

import numpy as np
import pytest

import scalargrad as sg

DRAWS = {
    "rand": lambda **k: sg.rand(3, 4, **k),
    "randn": lambda **k: sg.randn(3, 4, **k),
    "randint": lambda **k: sg.randint(0, 1000, (3, 4), **k),
    "randperm": lambda **k: sg.randperm(100, **k),
    "normal": lambda **k: sg.normal(2.0, 3.0, (3, 4), **k),
    "bernoulli": lambda **k: sg.bernoulli(sg.full((50,), 0.5), **k),
    "multinomial": lambda **k: sg.multinomial(sg.ones(100), 20, **k),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_seed_decides(name):
    draw = DRAWS[name]
    sg.manual_seed(7)
    first, second = draw(), draw()
    sg.manual_seed(7)
    assert draw().tolist() == first.tolist()
    assert draw().tolist() == second.tolist() != first.tolist()
    sg.manual_seed(8)
    assert draw().tolist() != first.tolist()


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_of_ones_own_leaves_the_default_alone(name):
    draw = DRAWS[name]
    state = sg.get_rng_state()
    one, other = sg.Generator().manual_seed(3), sg.Generator().manual_seed(3)
    assert draw(generator=one).tolist() == draw(generator=other).tolist()
    after = sg.get_rng_state()
    assert sg.rand(3).tolist() == (sg.set_rng_state(state) or sg.rand(3)).tolist()
    sg.set_rng_state(after)


def test_the_state_may_be_kept_and_put_back():
    sg.rand(5)
    state = sg.get_rng_state()
    first = sg.randn(5).tolist()
    sg.set_rng_state(state)
    assert sg.randn(5).tolist() == first


def test_fork_rng_leaves_no_trace():
    sg.manual_seed(1)
    expected = sg.rand(2).tolist()
    sg.manual_seed(1)
    with sg.fork_rng():
        sg.rand(100)
        sg.manual_seed(99)
    assert sg.rand(2).tolist() == expected
    sg.manual_seed(1)
    with pytest.raises(TypeError), sg.fork_rng():
        sg.rand(sg.rand(1))
    assert sg.rand(2).tolist() == expected


def test_seeds():
    assert sg.initial_seed() == 0  # the tests' own
    sg.manual_seed(-5)
    assert sg.initial_seed() == -5
    one, two = sg.seed(), sg.seed()
    assert one != two
    assert sg.initial_seed() == two
    assert sg.manual_seed(3).initial_seed() == 3
    for wrong in "3", 2.5, None:
        with pytest.raises((TypeError, RuntimeError), match="manual_seed"):
            sg.manual_seed(wrong)


def test_distributions():
    u, n = sg.rand(20000), sg.randn(20000)
    assert 0 <= u.numpy().min() < 0.001
    assert 0.999 < u.numpy().max() < 1
    assert abs(u.mean().item() - 0.5) < 0.01
    assert abs(n.mean().item()) < 0.03
    assert abs(n.std().item() - 1) < 0.03
    assert abs((n.numpy() > 1.959964).mean() - 0.025) < 0.005
    m = sg.normal(sg.tensor([10.0, -10.0]), sg.tensor([0.0, 1.0]))
    assert m[0].item() == 10.0
    assert m[1].item() < 0


def test_integers_cover_their_range_and_no_more():
    assert set(sg.randint(3, 7, (500,)).tolist()) == {3, 4, 5, 6}
    assert set(sg.randint(2, (200,)).tolist()) == {0, 1}
    assert set(sg.randint(-2, 0, (100,)).tolist()) == {-2, -1}
    assert sg.randint(0, 5, (2, 3)).dtype == sg.int64
    assert sg.randint(0, 5, (2,), dtype=sg.uint8).dtype == sg.uint8
    assert sg.randint_like(sg.ones(2, 3), 0, 5).shape == (2, 3)


def test_permutations():
    for n in 0, 1, 50:
        assert sorted(sg.randperm(n).tolist()) == list(range(n))
    assert sg.randperm(50).dtype == sg.int64


def test_bernoulli_and_multinomial():
    assert sg.bernoulli(sg.tensor([0.0, 1.0])).tolist() == [0.0, 1.0]
    assert abs(sg.bernoulli(sg.full((20000,), 0.3)).mean().item() - 0.3) < 0.02
    drawn = sg.multinomial(sg.tensor([0.0, 3.0, 1.0]), 8000, replacement=True).numpy()
    assert set(drawn.tolist()) == {1, 2}
    assert abs((drawn == 1).mean() - 0.75) < 0.03
    rows = sg.multinomial(sg.tensor([[1.0, 0.0], [0.0, 1.0]]), 1)
    assert rows.tolist() == [[0], [1]]
    assert sorted(sg.multinomial(sg.ones(4), 4).tolist()) == [0, 1, 2, 3]


def test_shapes_and_dtypes():
    assert sg.rand(2, 3).shape == sg.rand((2, 3)).shape == sg.rand([2, 3]).shape == (2, 3)
    assert sg.rand(()).shape == ()
    assert sg.randn(0, 2).shape == (0, 2)
    assert sg.rand(2).dtype == sg.float32
    assert sg.randn(2, dtype=sg.float64).dtype == sg.float64
    assert sg.rand_like(sg.ones(2, dtype=sg.float64)).dtype == sg.float64
    assert sg.randn_like(sg.ones(2, 3)).shape == (2, 3)
    assert sg.randn(2, requires_grad=True).is_leaf


WRONG = {
    "rand of ints": (lambda: sg.rand(2, dtype=sg.int64), RuntimeError, "floating"),
    "negative size": (lambda: sg.rand(-2), RuntimeError, "negative"),
    "randint of nothing": (lambda: sg.randint(3, 3, (2,)), RuntimeError, "low"),
    "randperm": (lambda: sg.randperm(-1), RuntimeError, "non-negative"),
    "std": (lambda: sg.normal(0.0, -1.0, (2,)), RuntimeError, "std"),
    "bernoulli": (lambda: sg.bernoulli(sg.tensor([1.5])), RuntimeError, "between 0 and 1"),
    "bernoulli of nan": (lambda: sg.bernoulli(sg.tensor([float("nan")])), RuntimeError, "between 0 and 1"),
    "too many": (lambda: sg.multinomial(sg.ones(2), 3), RuntimeError, "without replacement"),
    "too many, of those that can be": (
        lambda: sg.multinomial(sg.tensor([1.0, 0.0]), 2),
        RuntimeError,
        "without replacement",
    ),
    "negative weights": (lambda: sg.multinomial(sg.tensor([1.0, -1.0]), 1), RuntimeError, "element < 0"),
    "no weights": (lambda: sg.multinomial(sg.zeros(2), 1), RuntimeError, "sum of probabilities"),
    "nan weights": (lambda: sg.multinomial(sg.tensor([float("nan")]), 1), RuntimeError, "nan"),
}


@pytest.mark.parametrize("name", WRONG)
def test_bad_input_gets_an_exception_and_a_sentence(name):
    call, error, words = WRONG[name]
    with pytest.raises(error, match=words):
        call()


def test_threads_may_draw_at_once():
    drawn = []
    threads = [threading.Thread(target=lambda: drawn.extend(sg.rand(1000).tolist())) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(set(drawn)) > 3900  # in no fixed order, but no number twice but by chance
    assert np.isfinite(drawn).all()
