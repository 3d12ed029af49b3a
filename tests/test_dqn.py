"""What dqn.py promises: the agent does what the post says, the script what the README says."""
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from benchmark import (  # before NumPy: dqn.py sets the number of threads
    GO_ON, PLAYER, ROOT, ROWS, agent_with, dqn, fresh, patched, scores_in)

import numpy as np
import pytest
from PIL import Image

LINE = re.compile(r"episode: \d+/\d+, score: \d+, mean of last 100: \d+\.\d, epsilon: [01]\.\d\d")
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "LC_ALL": "C"}
for name in "DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER":
    ENVIRONMENT.pop(name, None)
ENVIRONMENT["XDG_RUNTIME_DIR"] = "/tmp"  # else SDL complains of its absence
GOOD = (0.1, 0.2, 1, 0.5)  # what a good player weighs position, velocity, angle, spin with
DRIFTS = (0, 0, 1, 0.5)  # holds the pole, but lets the cart drift off the track after 500 frames


@pytest.fixture
def agent():
    dqn.keras.utils.set_random_seed(0)
    return dqn.DQNAgent(dqn.gym.make("CartPole-v1"))


@pytest.fixture
def folder(tmp_path):
    """A folder with the script and the player in save/, its name not free of blanks."""
    folder = tmp_path / "a clone"
    (folder / "save").mkdir(parents=True)
    shutil.copy(ROOT / "dqn.py", folder)
    shutil.copy(PLAYER, folder / "save")
    return folder


@pytest.fixture
def play_script(monkeypatch, folder):
    """A function that runs the script's main block here: its exit code, and its variables."""
    def play(*args):
        monkeypatch.setattr(sys, "argv", ["dqn.py", *map(str, args)])
        try:
            return 0, runpy.run_path(str(folder / "dqn.py"), run_name="__main__")
        except SystemExit as end:
            trace = end.__traceback__
            while trace.tb_next:
                trace = trace.tb_next
            return end.code or 0, trace.tb_frame.f_globals
    return play


def start(folder, *args, **environment):
    command = [sys.executable, folder / "dqn.py", *map(str, args)]
    return subprocess.Popen(command, cwd=folder, env={**ENVIRONMENT, **environment}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end(process):
    """Wait for the script's end: its exit code, the lines on stdout, and its own on stderr."""
    out, err = process.communicate(timeout=300)
    assert "Traceback" not in err, err
    lines = [line for line in err.splitlines() if not re.match("[IWE]0000 |WARNING: All log", line)]
    return process.returncode, out.splitlines(), lines


def fill(agent, count, random=np.random.default_rng(1), **given):
    """Let the agent remember made-up frames, and return them."""
    for _ in range(count):
        state, next_state = np.float32(random.normal(size=(2, 1, 4)))
        each = dict(state=state, action=np.int64(random.integers(2)), reward=1.0,
                    next_state=next_state, done=False)
        agent.remember(**{**each, **given})
    return list(agent.memory)[-count:]


def let_play(monkeypatch, wish, exploring):
    """Let the script, instead of learning, weigh the state with wish; and always explore, or never.

    It pushes right where the weighted sum of position, velocity, angle, spin is above 0.
    """
    def fit(agent, states, targets):
        weights = [np.zeros_like(weight) for weight in agent.weights]
        weights[0][:, 0] = np.array(wish) / 100  # tanh of so little is the little itself
        weights[2][0, 0] = weights[4][0, 0] = weights[6][0, 1] = 1
        if not np.array_equal(agent.weights[0], weights[0]):
            agent.model.set_weights(weights)

    monkeypatch.setattr(dqn.tf, "function", lambda **_: lambda function: fit)
    monkeypatch.setattr(np.random, "rand", lambda: 0 if exploring else 2)


def test_the_post_s_names_and_numbers(agent):
    assert (agent.epsilon, agent.epsilon_decay, agent.epsilon_min) == (1, .995, 0.1)
    (first,), rest = fill(agent, 1), fill(agent, 1999)
    assert agent.memory[0] is first and first[0].shape == (1, 4) and fill(agent, 1)
    assert len(agent.memory) == 2000 and agent.memory[0] is rest[0]  # it forgets the oldest
    assert [(layer.units, layer.activation.__name__) for layer in agent.model.layers] == [
        (128, "tanh")] * 3 + [(2, "linear")]
    assert agent.model.loss == "mse" and type(agent.model.optimizer) is dqn.RMSprop
    assert agent.model.optimizer.learning_rate.numpy() == pytest.approx(0.0001)


def test_predict_is_model_predict_also_after_replay_and_load(agent):
    states, answers = np.float32(np.random.default_rng(2).normal(size=(50, 4))), []
    for change in (lambda: None, lambda: fill(agent, 5) and agent.replay(128),
                   lambda: agent.load(PLAYER)):
        change()
        answers.append(agent.predict(states))
        keras_s = agent.model.predict(states, verbose=0)
        np.testing.assert_allclose(answers[-1], keras_s, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(agent.predict(states[0]), answers[-1][0], rtol=1e-4, atol=1e-3)
    assert not np.allclose(*answers[:2]) and not np.allclose(*answers[1:])


def test_fit_is_model_fit_and_compiled_once(agent):
    random = np.random.default_rng(3)
    states = np.float32(random.normal(size=(320, 4)))
    plain = dqn.DQNAgent(agent.env).model
    plain.set_weights(agent.weights)
    for _ in range(2):
        before, targets = agent.model.get_weights(), np.float32(50 * random.normal(size=(320, 2)))
        plain.fit(states, targets, batch_size=32, shuffle=False, verbose=0)
        agent.fit(states.reshape(10, 32, 4), targets.reshape(10, 32, 2))
        for *both, old in zip(agent.model.get_weights(), plain.get_weights(), before):
            np.testing.assert_allclose(*both, atol=1e-4)
            assert np.abs(both[0] - old).max() > 1e-4  # and it did go somewhere
    assert agent.fit.experimental_get_tracing_count() == 1


def test_act_explores_at_epsilon_1_and_is_greedy_at_0(agent):
    states = np.float32(np.random.default_rng(4).normal(size=(200, 1, 4)))
    best = [np.argmax(agent.model(state).numpy()[0]) for state in states]
    assert len(set(best)) == 2
    assert 400 < sum(agent.act(states[0]) for _ in range(1000)) < 600
    agent.epsilon = 0
    assert [agent.act(state) for state in states] == best
    assert [agent.act(state[0]) for state in states] == best  # as Gymnasium gives it, (4,)
    agent.epsilon = 0.1  # a tenth at random, half of which would have been the best anyway
    assert 0.9 < np.mean([agent.act(states[0]) == best[0] for _ in range(2000)]) < 0.99


def test_replay_fits_the_post_s_targets(agent):
    """As the post reads: target = reward, and if not done, + gamma * amax(predict(next_state))."""
    literal, fitted = {}, []
    for state, action, reward, next_state, done in (
            fill(agent, 20) + fill(agent, 20, done=True, reward=-100)):
        target = reward
        if not done:
            future = np.amax(agent.model.predict(next_state, verbose=0)[0])
            target = reward + agent.gamma * future
        target_f = agent.model.predict(state, verbose=0)
        target_f[0][action] = target
        literal[state.tobytes()] = target_f[0]
    agent.fit = lambda *args: fitted.append(args)
    agent.replay(480)
    (states, targets), = fitted
    assert (states.shape, targets.shape) == ((15, 32, 4), (15, 32, 2))
    assert {state.tobytes() for state in states.reshape(480, 4)} == set(literal)  # each is drawn
    for state, target_f in zip(states.reshape(480, 4), targets.reshape(480, 2)):
        np.testing.assert_allclose(target_f, literal[state.tobytes()], rtol=1e-5, atol=1e-5)


def test_epsilon_decays_with_each_replay_to_its_minimum_and_load_goes_there(agent):
    fill(agent, 1)
    agent.fit = lambda *args: None
    epsilons = [agent.replay(32) or agent.epsilon for _ in range(600)]
    assert epsilons[:2] == pytest.approx([agent.epsilon_decay, agent.epsilon_decay ** 2])
    assert agent.epsilon_decay * agent.epsilon_min < epsilons[-1] <= agent.epsilon_min
    agent.epsilon = 1
    agent.load(PLAYER)
    assert agent.epsilon == agent.epsilon_min


def test_training_ends_with_a_player_and_prints_nothing_but_its_own_lines(folder):
    shutil.rmtree(folder / "save")
    code, out, err = end(start(folder, KERAS_BACKEND="jax",
                               MPLBACKEND="module://matplotlib_inline.backend_inline"))
    games, scores = len(out) - 1, scores_in("\n".join(out))
    assert (code, err) == (0, ["to see it play: python dqn.py --watch"])
    assert all(map(LINE.fullmatch, out[:-1])) and out[-1] == f"solved after {games} games"
    assert [line.split()[1] for line in out[:-1]] == [f"{e}/2000," for e in range(games)]
    assert f"{np.mean(scores[-100:]):.1f}" == re.search("100: (.*),", out[-2])[1]
    assert np.mean(scores[-100:]) >= 475
    assert sorted(os.listdir(folder / "save")) == ["cartpole-dqn.png", "cartpole-dqn.weights.h5"]
    picture = np.asarray(Image.open(folder / "save/cartpole-dqn.png").convert("RGB"))
    assert picture.shape[1] >= 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    for weights in folder / "save/cartpole-dqn.weights.h5", PLAYER:
        assert (fresh(agent_with(weights), 100, 5000) == 5000).sum() >= 97
        assert (fresh(agent_with(weights), 100, 500) == 500).sum() >= 97


def test_same_seed_same_run_another_seed_another(play_script, folder, capsys):
    lines, weights = [], []
    for i, seed in ("a", 7), ("b", 7), ("new/cartpole-dqn", 8):
        code, known = play_script("--episodes", 12, "--seed", seed, "--weights",
                                  f"{folder}/{i}".replace("new/cartpole-dqn", "new/"))
        out, err = capsys.readouterr()
        assert code == "not solved after 12 games"
        assert f'python dqn.py --watch --weights "{folder}/{i}.unsolved"' in err
        lines.append(out)
        weights.append(agent_with(folder / f"{i}.unsolved.weights.h5").weights)
        assert all(map(np.array_equal, weights[-1], known["agent"].weights))
    assert lines[0].count("\n") == 12 and lines[0] == lines[1] != lines[2]
    assert all(map(np.array_equal, weights[0], weights[1]))


@pytest.mark.parametrize("limit", [5, 500])
def test_dying_is_remembered_as_done_and_the_time_limit_is_not(play_script, monkeypatch, limit):
    """No pole falls within 5 frames; within 500, that of a beginner does, in each game."""
    make = dqn.gym.make
    monkeypatch.setattr(dqn.gym, "make", lambda *args, **options: make(
        *args, **options, max_episode_steps=limit))
    _, known = play_script("--episodes", 10)
    memory, scores = known["agent"].memory, known["scores"]
    ends = np.cumsum(scores) - 1
    assert len(memory) == sum(scores)
    assert max(scores) == 5 if limit == 5 else 8 < max(scores) < 500
    assert known["agent"].epsilon == pytest.approx(.995 ** (10 if limit == 5 else 80))
    assert [i for i, frame in enumerate(memory) if frame[4]] == ([] if limit == 5 else list(ends))
    assert all(reward == (-100 if done else 1) for _, _, reward, _, done in memory)
    for i in range(len(memory) - 1):  # a game is one chain of states, and the next one a new chain
        assert np.array_equal(memory[i][3], memory[i + 1][0]) == (i not in ends)


@pytest.mark.parametrize("wish, exploring, exam, solved", [
    (GOOD, False, 5000, True), (DRIFTS, False, 500, True),  # which an exam of 500 lets pass
    (DRIFTS, False, 5000, False), (GOOD, True, 5000, False)])
def test_solved_is_100_good_games_of_training_and_an_exam(
        play_script, monkeypatch, folder, wish, exploring, exam, solved):
    let_play(monkeypatch, wish, exploring)
    make_vec = dqn.gym.make_vec
    monkeypatch.setattr(dqn.gym, "make_vec", lambda *args, max_episode_steps: make_vec(
        *args, max_episode_steps=min(exam, max_episode_steps)))
    code, known = play_script("--episodes", 104, "--weights", folder / "its")
    assert (code == 0) == solved and 100 <= len(known["scores"]) <= (102 if solved else 104)
    assert (np.mean(known["scores"][-100:]) >= 475) != exploring
    assert (folder / "its.weights.h5").exists() == solved
    assert (folder / "its.unsolved.weights.h5").exists() != solved


@pytest.mark.parametrize("games, signals", [(1, 1), (20, 3)])
def test_ctrl_c_saves_beside_the_older_player_and_says_so(folder, games, signals):
    process = start(folder, "--weights", "save/")
    lines = [process.stdout.readline() for _ in range(games)]
    for _ in range(signals):
        time.sleep(np.random.random() / 10)  # while fit is compiled for 1, or anywhere for 20
        process.send_signal(signal.SIGINT)
    code, rest, err = end(process)
    assert code == 1 and err == [
        'to see it play: python dqn.py --watch --weights "save/cartpole-dqn.unsolved"',
        f"not solved after {len(lines + rest)} games"]
    assert (folder / "save" / PLAYER.name).read_bytes() == PLAYER.read_bytes()
    assert sorted(os.listdir(folder / "save")) == [
        "cartpole-dqn.unsolved.png", "cartpole-dqn.unsolved.weights.h5", PLAYER.name]
    agent_with(folder / "save/cartpole-dqn.unsolved.weights.h5")


def test_ctrl_c_saves_what_was_learnt_until_then(play_script, monkeypatch, folder):
    sample, before = dqn.gym.spaces.Discrete.sample, signal.getsignal(signal.SIGINT)

    def interrupt(space, left=iter(range(10 ** 6))):
        if next(left) == 99:
            os.kill(os.getpid(), signal.SIGINT)
        return sample(space)

    monkeypatch.setattr(dqn.gym.spaces.Discrete, "sample", interrupt)
    code, known = play_script("--weights", folder / "its")
    games = len(known["scores"])
    assert code == f"not solved after {games} games" and 2 <= games <= 10
    assert known["agent"].epsilon == pytest.approx(.995 ** (8 * games - 8))
    saved = agent_with(folder / "its.unsolved.weights.h5").weights
    assert all(map(np.array_equal, saved, known["agent"].weights))
    assert signal.getsignal(signal.SIGINT) is before  # and so Ctrl-C works after %run, too


def test_head_and_letters_that_stdout_lacks_lose_nothing(folder):
    process = start(folder, "--episodes", 9, "--weights", "学习/a", PYTHONIOENCODING="cp1252")
    process.stdout.readline()
    process.stdout.close()
    assert "Error" not in process.stderr.read() and process.wait(timeout=60) == 1
    agent_with(folder / "学习/a.unsolved.weights.h5")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_save_is_whole_or_not_at_all_and_leaves_nothing_else(agent, tmp_path, monkeypatch, error):
    def replace(*_):
        raise error

    file = tmp_path / "x.weights.h5"
    agent.save(file)
    whole = file.read_bytes()
    agent_with(file)
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(error):
        agent.save(file)
    with pytest.raises(ValueError):
        agent.save(tmp_path / "x.h5")  # a name that load would not take
    assert file.read_bytes() == whole and os.listdir(tmp_path) == [file.name]


def test_gif_is_an_animation_of_one_game_of_the_weights(play_script, folder, capsys, monkeypatch):
    shutil.copy(PLAYER, folder / "my.weights.h5")
    gif = "--gif", folder / "play it.gif", "--weights", folder / "my.weights.h5"
    code, _ = play_script(*gif)
    assert not code and capsys.readouterr().out == "score: 500\n"
    with Image.open(gif[1]) as picture:
        assert picture.size == (600, 400) and picture.n_frames > 100
        first = np.asarray(picture.convert("RGB")).astype(int)
        picture.seek(picture.n_frames // 2)
        moved = np.abs(first - np.asarray(picture.convert("RGB"))).max(axis=2) > 50
    assert 50 < moved.sum() < 20_000  # the cart and the pole, not the whole picture
    whole = gif[1].read_bytes()
    assert len(whole) < 1_000_000
    for error, said in (KeyboardInterrupt, "interrupted"), (OSError(28, "disk full"), "disk full"):
        def save(*_, **__):
            raise error
        monkeypatch.setattr(Image.Image, "save", save)
        code, _ = play_script(*gif)
        assert code.startswith("dqn.py: ") and code.endswith(said) and "\n" not in code
    assert gif[1].read_bytes() == whole and len(os.listdir(folder)) == 4  # and no part is left


def test_watch_needs_a_screen_and_plays_at_the_game_s_own_speed_until_ctrl_c(folder):
    for option in "--watch", "--render":
        code, _, err = end(start(folder, option))
        assert code == 2 and "--gif FILE" in err[-1]
    process = start(folder, "--watch", SDL_VIDEODRIVER="dummy")
    began = time.monotonic()
    assert process.stdout.readline() == "episode: 0/2000, score: 500\n"
    assert time.monotonic() - began > 500 / 50
    process.send_signal(signal.SIGINT)
    code, _, err = end(process)
    assert (code, err) == (1, ["dqn.py: interrupted"])


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="Xvfb is not installed")
@pytest.mark.parametrize("option", ["--watch", "--render"])
def test_a_real_window_opens_plays_and_ends_by_its_cross(folder, option):
    xlib = pytest.importorskip("Xlib.display", reason="python-xlib is not installed")
    from Xlib.protocol.event import ClientMessage
    server = subprocess.Popen(["Xvfb", "-displayfd", "1", "-screen", "0", "800x600x24"], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        name = ":" + server.stdout.readline().strip()
        process = start(folder, option, DISPLAY=name)
        assert process.stdout.readline().startswith("episode: 0/2000, score: ")
        display = xlib.Display(name)
        window, = display.screen().root.query_tree().children
        picture = window.get_image(0, 0, 600, 400, 2, 0xffffffff)  # 2: the format ZPixmap
        colours = np.frombuffer(picture.data, "uint32") & 0xffffff
        assert (colours == 0xffffff).mean() > 0.5 and 0xca9865 in colours  # sky and pole
        close = [display.intern_atom("WM_DELETE_WINDOW"), 0, 0, 0, 0]  # a click on the cross
        window.send_event(ClientMessage(window=window, data=(32, close),
                                        client_type=display.intern_atom("WM_PROTOCOLS")))
        display.flush()
        began = time.monotonic()
        code, _, err = end(process)
        assert time.monotonic() - began < 8  # a won game lasts 10 seconds
        saved = (folder / "save/cartpole-dqn.unsolved.weights.h5").exists()
        assert code == saved == (option == "--render") and len(err) == 2 * saved
    finally:
        server.kill()


@pytest.mark.parametrize("args, said", [
    ("--episodes x", "--episodes"), ("--episodes 0", "--episodes"), ("--seed x", "--seed"),
    ("--seed -1", "--seed"), ("--seed 12345678901234", "--seed"), ("--fast", "--fast"),
    ("--gif", "--gif"), ("--gif save", ".gif"), ("--gif x.weights.h5", ".gif"),
    ("--gif no/where/x.gif", "where"), ("--watch --gif no/where/x.gif", "where"),
    ("--weights no/where/x", "where"), ("--weights dqn.py/x", "dqn.py"),
    (f"--weights {'x' * 240}", "long")])
def test_a_wrong_command_ends_with_exit_code_2_before_it_costs_time(
        play_script, monkeypatch, folder, capsys, args, said):
    monkeypatch.chdir(folder)
    code, _ = play_script(*args.split())
    out, err = capsys.readouterr()
    usage, error = err.partition("dqn.py: error: ")[::2]
    assert (code, out) == (2, "") and usage.startswith("usage: dqn.py")
    assert said in error and error.count("\n") == 1 and os.listdir(folder / "save") == [PLAYER.name]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("what", ["missing", "empty", "truncated", "text", "foreign"])
def test_weights_that_cannot_be_loaded_end_with_one_line(play_script, folder, what):
    file, good = folder / "its.weights.h5", PLAYER.read_bytes()
    if what == "foreign":
        layers = [dqn.keras.Input((4,)), *map(dqn.Dense, (24, 24, 2))]
        dqn.keras.Sequential(layers).save_weights(file)
    elif what != "missing":
        file.write_bytes({"empty": b"", "truncated": good[:len(good) // 2],
                          "text": b"balance the pole\n" * 1000}[what])
    code, _ = play_script("--gif", folder / "x.gif", "--weights", file)
    assert code.startswith(f"dqn.py: {file}: ") and "\n" not in code
    assert not (folder / "x.gif").exists()


def test_each_row_of_the_experiment_is_a_change_of_lines_that_are_there():
    for patches in ROWS.values():
        compile(patched(GO_ON + patches), "dqn.py", "exec")
    with pytest.raises(AssertionError):
        patched([("self.gamma = 0.98", "self.gamma = 0.9")])


def test_the_readme_s_snippet_plays_a_game_that_is_won(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    snippet, = re.findall("```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    exec(snippet, {})
    assert capsys.readouterr().out == "score: 500.0\n"
