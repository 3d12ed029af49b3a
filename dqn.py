"""Deep Q Learning with Keras and Gym: the script of Keon Kim's post of 2017, which now learns.
Read it beside the post: `post:` marks what differs, and README.md says why.
"""
import argparse
import copy
import os
import signal
import sys
from collections import deque
from pathlib import Path

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")  # so small a network wants one thread
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # fewer of TensorFlow's lines: 6, not 13
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # else pygame greets on stdout
os.environ.setdefault("SDL_FRAMEBUFFER_ACCELERATION", "0")  # else the window may crash

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from keras.layers import Dense
from keras.optimizers import RMSprop
from matplotlib.figure import Figure
from PIL import Image


class DQNAgent:
    """The agent of "Putting It All Together". One state has the shape (1, 4), n states (n, 4)."""
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=5000)  # the latest frames; post: [], keeps all
        self.gamma = 0.99  # decay rate of future rewards; post: 0.9
        self.epsilon = 1  # exploration
        self.epsilon_decay = .995  # per replay, so six times after a loss
        self.epsilon_min = 0.1
        self.learning_rate = 0.0002  # post: 0.0001
        self.minibatch_size = 64  # memories per gradient step (Keras's batch_size); post: 1
        self._build_model()

    def _build_model(self):
        model = keras.Sequential()
        model.add(keras.Input(shape=(4,)))  # post: Dense(128, input_dim=4, ...)
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        model.compile(loss='mse', optimizer=RMSprop(self.learning_rate))
        self.model = model
        self.weights = model.get_weights()  # as arrays, for predict

    def remember(self, state, action, reward, next_state, done):
        """Append one frame to the memory ("Remember"). done: the game was lost in it."""
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return an action for one state, 0 or 1 ("How The Agent Decides to Act")."""
        if np.random.rand() <= self.epsilon:
            # The agent acts randomly
            return self.env.action_space.sample()
        # Predict each action's value (reward plus future reward), and pick the better action
        act_values = self.predict(state)  # (1, 2)
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Learn from n = batch_size random memories, and explore a little less ("Replay")."""
        # Sample random indexes of the memory, with repeats. post: at most len(self.memory) of them
        batches = np.random.choice(len(self.memory), batch_size)
        # Extract the memories at these indexes, all n at once; post: one after the other
        state, action, reward, next_state, done = zip(*[self.memory[i] for i in batches])
        state, next_state = np.concatenate(state), np.concatenate(next_state)  # (n, 4) each
        # The target is the reward and, if not done, the discounted future reward: the value that
        # the network predicts for the better action in the next state, times gamma
        future = self.gamma * np.amax(self.predict(next_state), axis=1)  # (n,)
        target = np.where(done, reward, reward + future)
        # The action taken gets the target. The other one was not tried, and keeps its prediction
        target_f = self.predict(state)  # (n, 2)
        target_f[np.arange(batch_size), action] = target
        # All targets were made before the first gradient step, and stand still, so that the network
        # does not chase its own changing guesses. post: each fit changed the targets made after it
        self.fit(state, target_f)
        self.weights = self.model.get_weights()
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    def load(self, name):
        """Read the weights from the file `name` (.weights.h5), or raise one of Keras's errors."""
        self.model.optimizer.build(self.model.trainable_variables)  # its state is in the file, too
        self.model.load_weights(name)
        self.weights = self.model.get_weights()

    def save(self, name):
        """Write the weights to the file `name` (.weights.h5): the whole file, or none."""
        part = f"{name}.{os.getpid()}.weights.h5"
        self.model.save_weights(part)
        os.replace(part, name)

    def predict(self, state):
        """Return the values of both actions, (n, 2), for n states, (n, 4)."""
        # The same as model.predict(state), which takes 31 ms for one state; this takes 0.01
        w1, b1, w2, b2, w3, b3, w4, b4 = self.weights
        hidden = np.tanh(state @ w1 + b1)
        hidden = np.tanh(hidden @ w2 + b2)
        hidden = np.tanh(hidden @ w3 + b3)
        return hidden @ w4 + b4

    @tf.function(jit_compile=True)
    def fit(self, state, target_f):
        """Train the network towards target_f, (n, 2), for n states: a step for each minibatch."""
        # The same as model.fit(state, target_f, batch_size=minibatch_size, shuffle=False),
        # which takes 51 ms for 2,048 states; this, compiled in the first call, takes 3
        n, size = len(state), self.minibatch_size
        for i in tf.range(0, n - n % size, size):
            rows = i + tf.range(size)
            self.model.train_step((tf.gather(state, rows), tf.gather(target_f, rows)))
        if n % size:  # the states that are left, fewer than a minibatch
            self.model.train_step((state[-(n % size):], target_f[-(n % size):]))


def play(agent, env):
    """Play env's game, or its many at once, without exploring; count frames until one ends."""
    state, _ = env.reset()
    for time_t in range(5000):
        state, _, terminated, truncated, _ = env.step(np.argmax(agent.predict(state), axis=-1))
        yield time_t + 1
        if np.any(terminated | truncated):
            break


def save_gif(agent, env, name):
    """Play one game into the animation `name`, the whole file or none."""
    first, *rest = [Image.fromarray(env.render()).convert("P", dither=0) for _ in play(agent, env)]
    first.save(f"{name}.part", "GIF", save_all=True, append_images=rest, duration=20, loop=0)
    os.replace(f"{name}.part", name)
    print("score:", 1 + len(rest))


def watch(args):
    """Play with saved weights: one game into args.gif, or args.episodes games in a window."""
    env = gym.make('CartPole-v1', render_mode="rgb_array" if args.gif else "human")
    env.reset(seed=args.seed)
    agent = DQNAgent(env)
    try:
        agent.load(args.weights)
    except Exception as error:
        sys.exit(f"dqn.py: {args.weights}: {error}".splitlines()[0])
    if args.gif:
        return save_gif(agent, env, args.gif)
    import pygame  # gymnasium has loaded it for the window
    for e in range(args.episodes):
        for score in play(agent, env):
            if pygame.display.get_driver() == "offscreen":
                sys.exit("dqn.py: there is no screen for a window; --gif FILE needs none")
            if pygame.QUIT in [event.type for event in pygame.event.get()]:
                return
        print(f"episode: {e}/{args.episodes}, score: {score}", flush=True)


def save_curve(scores, name):
    """Save a picture of the training games' scores, and of the mean of the last 100."""
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    means = [np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))]
    axes.plot(scores, "C1.", means, "C0", [475] * len(scores), "C2--")
    axes.legend(["each training game", "mean of the last 100", "Gym's bar"])
    axes.set(xlabel="game", ylabel="score (frames survived)")
    axes.figure.savefig(name)


def options():
    """Return the options on the command line; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--watch", action="store_true", help="play with saved weights in a window")
    parser.add_argument("--gif", metavar="FILE", help="play one game with saved weights into FILE")
    parser.add_argument("--render", action="store_const", const="human", help="train in a window")
    parser.add_argument("--episodes", type=int, default=1000, help="play at most so many games")
    parser.add_argument("--seed", type=int, default=0, help="another number, another run")
    parser.add_argument("--weights", default=str(Path(__file__).parent / "save/cartpole-dqn"),
                        metavar="NAME", help="save or load NAME.weights.h5")
    args = parser.parse_args()
    args.weights = args.weights.removesuffix(".weights.h5") + ".weights.h5"
    if args.episodes < 1 or not 0 <= args.seed < 2 ** 32:
        parser.error("--episodes must be 1 or more, --seed from 0 to 4294967295")
    if args.gif and not args.gif.endswith(".gif"):
        parser.error("--gif FILE must end in .gif")
    folder = Path(args.gif or args.weights).parent
    if (args.gif or not args.watch) and not (folder.is_dir() and os.access(folder, os.W_OK)):
        parser.error(f"nothing can be saved in {folder}")
    return args


if __name__ == "__main__":
    args = options()
    signal.signal(signal.SIGINT, lambda *_: sys.exit(1))  # Ctrl-C
    keras.utils.set_random_seed(args.seed)
    if args.watch or args.gif:
        sys.exit(watch(args))
    # initialize gym environment and the agent
    env = gym.make('CartPole-v1', max_episode_steps=5000, render_mode=args.render)  # post: v0
    env.reset(seed=args.seed)
    env.action_space.seed(args.seed)
    agent = DQNAgent(env)
    exam = gym.make_vec('CartPole-v1', 200, max_episode_steps=5000)
    exam.reset(seed=args.seed + 1)
    scores, solved, stopped = [], False, []
    signal.signal(signal.SIGINT, lambda *_: stopped.append(True))  # Ctrl-C ends after this game
    # Iterate the game
    for e in range(args.episodes):
        # reset state in the beginning of each game. But a game that was won, after 500 frames, goes
        # on as the next one: a cart that drifts off the track slowly must lose. post: always reset
        if e == 0 or terminated or truncated:
            state, _ = env.reset()
            state = np.reshape(state, [1, 4])
        # time_t represents each frame of the game: the more time_t, the more score
        for time_t in range(500):  # post: 5000, but CartPole-v0 ended after 200
            # Decide action
            action = agent.act(state)
            # Advance the game. terminated: it is lost, and has no future reward. truncated: 5,000
            # frames are over, which is no loss, and the future counts. post: done, for both
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, 4])
            # reward the agent 1 for every frame it lived, and punish -100 for dying
            reward = -100 if terminated else reward
            agent.remember(state, action, reward, next_state, terminated)
            # make next_state the new current state for the next frame
            state = copy.deepcopy(next_state)
            if terminated or truncated:
                break
        scores.append(time_t + 1)  # post: time_t
        print(f"episode: {e}/{args.episodes}, score: {time_t + 1}, epsilon: {agent.epsilon:.2f}",
              flush=True)
        # Solved? Gym calls a mean of 475 over 100 games solved. Then follows, every tenth game, an
        # exam: 200 games without exploring, none lost in 5,000 frames. post: plays all episodes
        at_the_bar = len(scores) >= 100 and np.mean(scores[-100:]) >= 475
        if at_the_bar and len(scores) % 10 == 0:
            solved = max(play(agent, exam)) == 5000  # frames until the first one ends
        if solved or stopped:
            break
        # train the agent. Targets look one frame ahead, so each replay carries the news of a loss
        # one frame further back. A win has no such news, and six replays do harm. post: once
        for _ in range(6 if terminated else 1):
            agent.replay(2048)  # post: 32
    name = args.weights.removesuffix(".weights.h5") + ("" if solved else ".unsolved")
    agent.save(f"{name}.weights.h5")
    save_curve(scores, f"{name}.png")
    if not solved:
        sys.exit(f"not solved after {len(scores)} games; the last weights: {name}.weights.h5")
    print(f"solved after {len(scores)} games: {name}.weights.h5")
