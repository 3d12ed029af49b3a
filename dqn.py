"""Deep Q Learning with Keras and Gym: the agent of Keon Kim's post of 2017, learning, on today's packages.

Read it beside the post. What departs from it says so where it stands; the README's "Departures" says why.
"""
import argparse
import gc
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends without a traceback
    os.environ.update(OPENBLAS_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1")  # a sixth less time than with two
os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", PYGAME_HIDE_SUPPORT_PROMPT="1")
stderr = os.dup(2)  # TensorFlow and Gym write here while they load, and no setting of theirs prevents it
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
gc.disable()  # the imports are done in 2.2 s instead of 2.8
try:
    import keras
    import numpy as np
    import tensorflow as tf
    from keras.layers import Dense
    from matplotlib.figure import Figure
    from PIL import Image
    try:
        import gymnasium as gym
    except ImportError:
        import gym  # the post's package, unmaintained since 2022
finally:
    os.dup2(stderr, 2)
    gc.enable()


class DQNAgent:
    """The agent of the post's "Putting It All Together".

    env: a Gym environment with discrete actions 0 to n-1 and vectors as observations; ValueError for any other.
    A state is an array of shape (1, length of an observation), as in the post.
    """

    def __init__(self, env):
        actions, observations = env.action_space, env.observation_space
        if type(actions).__name__ != "Discrete" or actions.start != 0 or len(observations.shape or ()) != 1:
            raise ValueError(f"DQNAgent expects discrete actions from 0 and a vector, got {actions} and {observations}")
        self.env = env
        self.memory = []
        self.gamma = 0.99  # decay rate; post: 0.9, see README "Departures"
        self.epsilon = 1  # exploration
        self.epsilon_decay = .98  # post: .995, see README "Departures"
        self.epsilon_min = 0.1
        self.learning_rate = 0.003  # post: 0.0001, see README "Departures"
        self.minibatches = 32  # in a replay; post: 32 single samples, see README "Departures"
        self._build_model()

    def _build_model(self):
        """Make the network: a state in, the value of each action out ("Implementing Simple Neural Network")."""
        model = keras.Sequential()
        model.add(keras.Input(shape=self.env.observation_space.shape))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(int(self.env.action_space.n), activation='linear'))
        model.compile(loss='mse', optimizer=keras.optimizers.RMSprop(learning_rate=self.learning_rate))
        model.optimizer.build(model.trainable_variables)  # here: inside the replay it would cost a second trace
        self.model = model
        self._copy_weights()
        self._compiled_replay = tf.function(self._replay, jit_compile=True)  # 7 ms; as Keras calls, 170

    def predict(self, states):
        """model.predict, (n, observation) -> (n, actions), in NumPy: 0.02 ms a state, where Keras takes 50.

        It uses the weights as the latest _build_model, replay or load left them.
        """
        for kernel, bias in zip(self.weights[:-2:2], self.weights[1:-2:2]):
            states = np.tanh(states @ kernel + bias)
        return states @ self.weights[-2] + self.weights[-1]

    def _copy_weights(self):
        """Copy the model's weights for predict; FloatingPointError if there are NaN or infinite ones among them."""
        self.weights = self.model.get_weights()
        if not all(np.isfinite(weight).all() for weight in self.weights):
            raise FloatingPointError("some weights are NaN or infinite: the learning diverged")

    def remember(self, state, action, reward, next_state, done):
        """Append a transition to the memory ("Remember"); done: next_state is final, nothing can follow."""
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return a random action with probability epsilon, else the best ("How The Agent Decides to Act")."""
        if np.random.rand() <= self.epsilon:
            return self.env.action_space.sample()  # post: of an env from outside
        act_values = self.predict(state)
        return np.argmax(act_values[0])  # returns action

    def replay(self, batch_size):
        """Train on random minibatches of `batch_size` memories, then explore a little less ("Replay")."""
        if not self.memory:
            return
        shape = self.minibatches, batch_size
        batches = np.random.choice(len(self.memory), shape)  # with replacement; post: fewer of a short memory
        state, action, reward, next_state, done = zip(*(self.memory[i] for i in batches.flat))
        self._compiled_replay(np.reshape(state, (*shape, -1)), np.reshape(action, shape),
                              np.reshape(reward, shape).astype("float32"), np.reshape(next_state, (*shape, -1)),
                              np.reshape(done, shape), self.gamma)
        self._copy_weights()
        self.epsilon = max(self.epsilon_min, self.epsilon * self.epsilon_decay)  # post: ends just below the minimum

    def _replay(self, states, actions, rewards, next_states, dones, gamma):
        """The loop of the post's replay, over arrays (minibatches, batch_size), for states (..., observation)."""
        for i in tf.range(len(states)):
            # the reward and, if not done, the discounted future reward
            future = gamma * tf.reduce_max(self.model(next_states[i]), axis=1)
            target = tf.where(dones[i], rewards[i], rewards[i] + future)
            # target_f is the network's own answer, but for the action that was taken
            target_f = self.model(states[i])
            target_f = tf.where(tf.one_hot(actions[i], target_f.shape[1]) == 1, target[:, None], target_f)
            # Train the Neural Net with the state and target_f
            self.model.train_step((states[i], target_f))

    def load(self, name):
        """Take the network's weights from the file `name`; OSError, and the agent as it was, if that can't be done."""
        weights = self.weights
        open(name, "rb").close()  # a missing file or a folder: Python's words are plainer than HDF5's
        try:
            self.model.load_weights(name)
            self._copy_weights()
        except Exception as error:
            self.model.set_weights(weights)
            self.weights, reason = weights, str(error).partition("\n")[0]
            raise OSError(f"{name}: not this network's weights in Keras 3's format: {reason}") from None

    def save(self, name):
        """Write the network's weights to the file `name`, which ends in .weights.h5."""
        write(name, self.model.save_weights)


def write(name, save):
    """Let save(path) write beside the file `name`, then move it there: at any moment, `name` is a whole file."""
    with tempfile.TemporaryDirectory(dir=Path(name).parent) as folder:
        path = Path(folder) / Path(name).name
        save(path)
        os.replace(path, name)


def play(agent, envs, look=lambda: None):
    """Play a greedy game in each of `envs`, all at one pace, with look() after each frame; return the scores."""
    states = np.stack([env.reset()[0] for env in envs])
    scores = np.zeros(len(envs), int)
    playing = list(range(len(envs)))
    while playing:
        actions = np.argmax(agent.predict(states[playing]), axis=1)
        for i, action in zip(playing.copy(), actions):
            states[i], _, terminated, truncated, _ = envs[i].step(action)
            scores[i] += 1
            if terminated or truncated:
                playing.remove(i)
        look()
    return scores


def watch(agent, env, episodes, gif=None):
    """Play greedily and print the scores: in env's window, or as frames into the file `gif`."""
    import pygame  # Gym draws with it
    frames = []

    def look():
        if gif:
            frames.append(Image.fromarray(env.render()).convert("P", dither=0))
        if pygame.event.get(pygame.QUIT):  # the window was closed, or Ctrl-C, which SDL takes for the same
            sys.exit()

    for e in range(episodes):
        print("episode: {}/{}, score: {}".format(e, episodes, play(agent, [env], look)[0]))
    if gif:
        write(gif, lambda path: frames[0].save(path, save_all=True, append_images=frames[1:], duration=20, loop=0))


def plot(scores, epsilons, name):
    """Draw the learning curve into the picture `name`."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    left = figure.subplots()
    left.plot(scores, ".", label="score of a game")
    left.plot([np.mean(scores[max(0, e - 19):e + 1]) for e in range(len(scores))], label="mean of the last 20")
    left.set(xlabel="game", ylabel="score (frames survived)", ylim=0)
    right = left.twinx()
    right.plot(epsilons, "C2--", label="epsilon")
    right.set(ylabel="epsilon (share of random actions)", ylim=(0, 1.05))
    figure.legend(loc="outside upper center", ncols=3)
    write(name, figure.savefig)


def options():
    """Parse the command line; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser(usage="python dqn.py [options]", description=__doc__.splitlines()[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    option = parser.add_argument
    option("--watch", action="store_true", help="play in a window with the saved weights, don't train")
    option("--gif", type=Path, metavar="FILE", help="with --watch: play one game, as an animation, not in a window")
    option("--render", action="store_true", help="show the games of the training in a window")
    option("--env", choices=["CartPole-v0", "CartPole-v1"], default="CartPole-v1", help="the game")
    option("--episodes", type=int, metavar="N", default=1000, help="how many games to play at most")
    option("--seed", type=int, metavar="N", default=0, help="what the random numbers start from")
    option("--weights", type=Path, metavar="FILE", default=Path(__file__).parent / "save/cartpole-dqn.weights.h5",
           help="where the weights are kept: NAME.weights.h5")
    args = parser.parse_args()
    if args.episodes < 1 or not 0 <= args.seed < 2 ** 32:
        parser.error("--episodes must be 1 or more, --seed from 0 to 4294967295")
    if args.weights.is_dir() or not args.weights.name.endswith(".weights.h5"):
        parser.error(f"--weights {args.weights}: must be a file named NAME.weights.h5, Keras 3's format")
    if args.gif and (not args.watch or args.gif.is_dir() or args.gif.suffix != ".gif"):
        parser.error(f"--gif {args.gif}: must be a file named NAME.gif, and goes with --watch")
    return args


def explain(kind, error, trace):
    """sys.excepthook: one line for what the user can mend (a file, the screen), the traceback for a bug."""
    if issubclass(kind, (OSError, FloatingPointError)) or kind.__module__ == "pygame":
        print(f"dqn.py: {error}", file=sys.stderr)
        os._exit(1)  # without a last, loud attempt to write to a closed stdout (`| head`)
    sys.__excepthook__(kind, error, trace)


if __name__ == "__main__":
    sys.excepthook = explain
    args = options()
    sys.stdout.reconfigure(line_buffering=True)
    warnings.simplefilter("ignore")  # CartPole-v0 is out of date, we know
    tf.config.set_visible_devices([], "GPU")  # a seed means the same with one and without
    sys.stderr = open(os.dup(2), "w", buffering=1, errors="backslashreplace")  # our own lines; on descriptor 2 itself
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # older TensorFlow speaks when it compiles, SDL without a screen
    os.environ["SDL_FRAMEBUFFER_ACCELERATION"] = "0"  # OpenGL by Mesa crashes beside TensorFlow: one LLVM too many
    keras.utils.set_random_seed(args.seed)

    # initialize gym environment and the agent
    env = gym.make(args.env, render_mode="rgb_array" if args.gif else "human" if args.watch or args.render else None,
                   disable_env_checker=True)  # the old gym's checker fails under NumPy 2
    agent = DQNAgent(env)
    output = args.gif if args.watch else args.weights
    if not args.watch:
        os.makedirs(output.parent, exist_ok=True)
    if output:  # if it can't be written, say so before the work is done
        tempfile.TemporaryFile(dir=output.parent).close()
    if args.watch:
        agent.load(args.weights)
    if env.render_mode == "human":
        import pygame  # Gym draws with it
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen":
            raise OSError("no screen to open a window on: try --watch --gif FILE")
    if args.watch:
        sys.exit(watch(agent, env, 1 if args.gif else args.episodes, args.gif))

    limit = 500  # frames; of CartPole-v0 too, whose own games end at 200: what solves one game solves the other
    games = [gym.make(args.env, max_episode_steps=limit, disable_env_checker=True) for _ in range(100)]
    for i, game in enumerate([env, *games]):
        game.reset(seed=args.seed + i)
    env.action_space.seed(args.seed)
    signals, scores, epsilons = [], [], []
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, lambda number, frame: signals.append(number))
    best, weights = play(agent, games[:1]), agent.weights

    # Iterate the game
    for e in range(args.episodes):
        # reset state in the beginning of each game
        state, _ = env.reset()
        state = np.reshape(state, [1, -1])
        # time_t represents each frame of the game: the more of them the pole is kept upright, the more score
        for time_t in range(5000):
            # Decide action
            action = agent.act(state)
            # Advance the game to the next frame based on the action
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, -1])
            # reward the agent 1 for every frame it lived, and punish -100 for dying; post: and for the time limit
            reward = -100 if terminated else reward
            # Remember the previous state, action, reward, and done
            agent.remember(state, action, reward, next_state, terminated)
            # make next_state the new current state for the next frame
            state = next_state  # post: a deep copy of it; Gym makes a new array anyway
            # done becomes True when the game ends: the pole has dropped, or time is up
            done = terminated or truncated
            if args.render and pygame.event.get(pygame.QUIT):  # the window was closed
                signals.append(signal.SIGINT)
            if done or signals:
                break
        if signals:
            break
        # print the score; post: one frame fewer
        print("episode: {}/{}, score: {}, epsilon: {:.2f}".format(e, args.episodes, time_t + 1, agent.epsilon))
        scores.append(time_t + 1)
        epsilons.append(agent.epsilon)
        # train the agent with the experience of the episode
        agent.replay(32)
        # post: judged by eye; here, every other game, play without exploring: 1 game; if perfect, 10; if all are, 100
        if e % 2 == 0:
            for count in 1, 10, 100:
                marks = play(agent, games[:count])
                if marks.min() < limit:
                    break
            if marks.sum() > best.sum():
                best, weights = marks, agent.weights
            if best.sum() == 100 * limit:
                break

    solved, name = best.sum() == 100 * limit, str(args.weights).removesuffix(".weights.h5")
    if not solved:
        name += f".best-{int(best.mean())}"  # a solution saved by an earlier run stays
    agent.model.set_weights(weights)
    agent.save(f"{name}.weights.h5")
    plot(scores, epsilons, f"{name}.png")
    print(f"{'solved' if solved else 'stopped' if signals else 'not solved'} after {len(scores)} games: "
          f"{np.sum(best == limit)} of {len(best)} games without exploring lasted {limit} frames, {best.mean():.0f} "
          f"on average; weights: {name}.weights.h5", file=sys.stdout if solved else sys.stderr)
    os._exit(128 + signals[0] if signals else int(not solved))  # at once: TensorFlow takes 0.8 s to take its leave
