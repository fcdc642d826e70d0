"""The sweep, on payloads of the tests' own: it knows neither numbers nor arrays."""

import gc
import operator

import pytest

from scalargrad.graph import Node, Outputs, between, operations, sweep, tick


class Letter(Node):
    """A node whose gradients are words: `pull` says along which edge a gradient went."""

    def __init__(self, name, *parents, blocked=()):
        self.name, self.given, self.blocked, self.seq = name, parents, blocked, tick()
        self.pulls, self.hooks = 0, None

    @property
    def parents(self):
        return self.given

    def receive(self, grad):
        return grad if self.hooks is None else self.hooks(grad)

    def pull(self, grad, retain):
        self.pulls += 1
        self.retained = retain
        return [None if i in self.blocked else grad + self.name for i in range(len(self.given))]

    def __repr__(self):
        return self.name


def by_name(grads):
    return {node.name: grad for node, grad in grads.items()}


def test_operations_come_youngest_first_and_without_leaves():
    a, b = Letter("a"), Letter("b")
    c = Letter("c", a, b)
    d = Letter("d", c, a)
    e = Letter("e", c, d)
    assert operations(e) == [e, d, c]


def test_operations_of_a_leaf_are_none():
    assert operations(Letter("a")) == []


def test_a_node_is_pulled_once_after_all_of_its_uses():
    a = Letter("a")
    b = Letter("b", a)
    for _ in range(30):  # 2**30 paths
        b = Letter("b", b, b)
    nodes = operations(b)
    grads = sweep(b, Count(1))
    assert [node.pulls for node in nodes] == [1] * 31
    assert grads[a] == 2**30


class Count(int):
    """A payload that ignores names and adds."""

    def __add__(self, other):
        return self if isinstance(other, str) else Count(int(self) + int(other))


def test_contributions_add_up_in_the_order_of_uses_from_the_youngest():
    a = Letter("a")
    b = Letter("b", a)
    c = Letter("c", b, a)
    assert by_name(sweep(c, ".")) == {"a": ".c.cb"}


def test_only_leaves_come_back_unless_all_are_kept():
    a = Letter("a")
    b = Letter("b", a)
    c = Letter("c", b)
    assert by_name(sweep(c, ".")) == {"a": ".cb"}
    assert by_name(sweep(c, ".", keep=True)) == {"a": ".cb", "b": ".c", "c": "."}


def test_a_leaf_swept_alone_gets_the_seed():
    a = Letter("a")
    assert by_name(sweep(a, ".")) == {"a": "."}


def test_none_cuts_a_path_and_what_lies_behind_it_is_not_pulled():
    a = Letter("a")
    b = Letter("b", a)
    c = Letter("c", b, a, blocked=[0])
    assert by_name(sweep(c, ".")) == {"a": ".c"}
    assert b.pulls == 0


def test_targets_limit_what_is_visited_and_what_comes_back():
    a, x = Letter("a"), Letter("x")
    b, y = Letter("b", a), Letter("y", x)
    c = Letter("c", b, y)
    assert by_name(sweep(c, ".", targets={b})) == {"b": ".c"}
    assert (c.pulls, b.pulls, y.pulls) == (1, 0, 0)


def test_a_target_on_the_way_to_another_target_is_pulled_too():
    a = Letter("a")
    b = Letter("b", a)
    c = Letter("c", b)
    assert by_name(sweep(c, ".", targets={a, b})) == {"b": ".c", "a": ".cb"}


def test_the_root_may_be_a_target():
    a = Letter("a")
    b = Letter("b", a)
    assert by_name(sweep(b, ".", targets={b, a})) == {"b": ".", "a": ".b"}


def test_targets_elsewhere_get_nothing():
    a, other = Letter("a"), Letter("other")
    assert other not in sweep(Letter("b", a), ".", targets={other})


def test_between_finds_what_leads_to_the_targets():
    a, x = Letter("a"), Letter("x")
    b, y = Letter("b", a), Letter("y", x)
    c = Letter("c", b, y)
    assert between(operations(c), {a}) == {b, c}


def test_hooks_see_the_complete_gradient_once_and_replace_it():
    a = Letter("a")
    b = Letter("b", a)
    seen = []
    b.hooks = lambda grad: seen.append(grad) or "!"
    c = Letter("c", b, b)
    assert by_name(sweep(c, ".")) == {"a": "!b"}
    assert seen == [".c.c"]


def test_retain_is_passed_on_to_every_node():
    a = Letter("a")
    b = Letter("b", a)
    sweep(b, ".", retain=False)
    assert b.retained is False
    sweep(b, ".")
    assert b.retained is True


def test_outputs_pull_each_result_with_its_own_seed():
    a, b = Letter("a"), Letter("b")
    c, d = Letter("c", a, b), Letter("d", b)
    assert by_name(sweep(Outputs([c, d], ["1", "2"]), "")) == {"a": "1c", "b": "2d1c"}


class Bag(list):
    """A payload that can be added to in place, to see who is."""

    def __add__(self, other):
        return self if isinstance(other, str) else Bag([*self, *other])

    def __iadd__(self, other):
        self.extend(other)
        return self


def test_sums_are_added_to_in_place_only_where_they_were_made_by_the_sweep():
    seed = Bag(["seed"])
    a = Letter("a")
    b = Letter("b", a, a, a)
    grads = sweep(b, seed)
    assert grads[a] == ["seed"] * 3
    assert seed == ["seed"]


def test_plus_replaces_in_place_addition():
    a = Letter("a")
    calls = []

    def plus(p, q):
        calls.append((p, q))
        return operator.add(p, q)

    assert by_name(sweep(Letter("b", a, a, a), ".", plus=plus)) == {"a": ".b.b.b"}
    assert calls == [(".b.b", ".b")]


def test_a_wrong_number_of_gradients_is_an_error():
    node = Letter("b", Letter("a"))
    node.pull = lambda grad, retain: ["1", "2"]
    with pytest.raises(ValueError, match="2 gradients for 1 parents"):
        sweep(node, ".")


def test_a_node_that_knows_no_rule_says_so():
    with pytest.raises(NotImplementedError):
        Node().pull(1.0, True)
    assert Node().receive(1.0) == 1.0
    assert Node().parents == ()


def test_the_clock_never_stands_still():
    times = [tick() for _ in range(5)]
    assert times == sorted(set(times))


def test_a_sweep_leaves_no_cycles():
    gc.collect()
    gc.disable()
    try:
        a = Letter("a")
        sweep(Letter("c", Letter("b", a), a), ".")
        assert gc.collect() == 0
    finally:
        gc.enable()
