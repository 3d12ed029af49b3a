"""Deep Q Learning with Keras and Gym: the script of Keon Kim's blog post of 2017, which now learns.

Read it beside the post (keon.github.io/deep-q-learning). `post:` gives the post's version, `not in
the post` marks an addition, and README.md has the reasons. What Keras 3 or Gymnasium ask for is not
marked.
"""
import argparse
import copy
import os
import sys
from collections import deque

if __name__ == "__main__":  # not in the post: must be set before the imports below
    os.environ.update(
        KERAS_BACKEND="tensorflow",
        CUDA_VISIBLE_DEVICES="-1",  # a network as small as this needs no GPU
        TF_NUM_INTRAOP_THREADS="1", OPENBLAS_NUM_THREADS="1",  # and one thread is enough
        TF_CPP_MIN_LOG_LEVEL="3", PYGAME_HIDE_SUPPORT_PROMPT="1",  # hide the libraries' messages
        SDL_FRAMEBUFFER_ACCELERATION="0")  # else the window crashes on some screens
    if "ipykernel" not in sys.modules:  # a notebook keeps its own
        os.environ["MPLBACKEND"] = "agg"

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf
from keras.layers import Dense
from keras.models import Sequential
from keras.optimizers import RMSprop


# Deep-Q learning Agent
class DQNAgent:
    """See "Putting It All Together". A state is a batch of one, (1, 4), and n of them (n, 1, 4)."""
    def __init__(self, env):
        self.env = env
        self.memory = deque(maxlen=2000)  # the latest 2,000 frames; post: [], all frames
        self.gamma = 0.99  # decay rate: what a reward counts one frame later; post: 0.9
        self.epsilon = 1  # exploration
        self.epsilon_decay = .995  # in each replay, as in the post, but there are 8 after a loss
        self.epsilon_min = 0.1
        self.learning_rate = 0.0001
        self._build_model()

    def _build_model(self):
        model = Sequential()
        model.add(keras.Input(shape=(4,)))
        # For 'relu' see the exercises of README.md: it needs another change, too
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(128, activation='tanh'))
        model.add(Dense(2, activation='linear'))
        model.compile(loss='mse', optimizer=RMSprop(learning_rate=self.learning_rate))
        # Not in the post: else load warns, and our own fit, below, compiles twice
        model.optimizer.build(model.trainable_variables)
        self.model = model
        self.weights = model.get_weights()  # not in the post: for our own predict, below

    def remember(self, state, action, reward, next_state, done):
        """Append one frame to the memory ("Remember"). done: True if the game was lost in it."""
        self.memory.append((state, action, reward, next_state, done))

    def act(self, state):
        """Return an action, 0 or 1, for one state, also (4,) ("How The Agent Decides to Act")."""
        if np.random.rand() <= self.epsilon:
            # The agent acts randomly
            return self.env.action_space.sample()  # post: env, the global one
        # Predict the value of each action: its reward plus the discounted future reward. post:
        # self.model.predict(state)
        act_values = self.predict(np.reshape(state, [1, 4]))  # (1, 2)
        # Pick the action with the larger value
        return np.argmax(act_values[0])

    def replay(self, batch_size):
        """Train with n = batch_size memories ("Replay")."""
        # Sample random indexes of the memory, with replacement: batch_size of them from a short
        # memory, too, as fit is compiled anew for each other number. post: at most len(self.memory)
        batches = np.random.choice(len(self.memory), batch_size)
        states = np.reshape([self.memory[i][0] for i in batches], (-1, 1, 4))  # (n, 1, 4)
        next_states = np.reshape([self.memory[i][3] for i in batches], (-1, 1, 4))  # (n, 1, 4)
        # Make all predictions before the training, in two calls, from one network. post: in the
        # loop, with self.model.predict, where each fit changed the network for the next one
        future = self.predict(next_states)  # (n, 1, 2)
        target_f = self.predict(states)  # (n, 1, 2)
        for row, i in enumerate(batches):
            # Extract informations from i-th index of the memory
            _, action, reward, _, done = self.memory[i]
            # if done, the target is the reward alone (-100 penalty)
            target = reward
            if not done:
                # else the discounted future reward is added
                target = reward + self.gamma * np.amax(future[row][0])
            # Map the state to the target of the action taken. The other one keeps its prediction
            target_f[row][0][action] = target
        # Train the Neural Net with each state and its target_f. post: self.model.fit, in the loop
        self.fit(states, target_f)
        self.weights = self.model.get_weights()  # not in the post: the new ones, for predict
        if self.epsilon > self.epsilon_min:
            self.epsilon *= self.epsilon_decay

    # Not in the post: the rest of the class (load and save are the author's later ones), and the
    # functions below it. On a first reading, go on to "initialize gym", near the end

    def predict(self, states):
        """Do as model.predict, but faster: states (..., 4) give values (..., 2).

        It uses self.weights, which replay and load renew (after model.set_weights, do so yourself),
        and knows Dense layers only, with the activations that it names.
        """
        # On a slow computer one state takes 0.02 ms, and with model.predict 75
        activations = {'tanh': np.tanh, 'relu': lambda x: np.maximum(x, 0), 'linear': lambda x: x}
        for layer, kernel, bias in zip(self.model.layers, self.weights[::2], self.weights[1::2],
                                       strict=True):
            states = activations[layer.activation.__name__](states @ kernel + bias)
        return states

    @tf.function(jit_compile=True)
    def fit(self, states, targets):
        """Do as the post's model.fit with n states in turn, (n, 1, 4), and their targets (n, 1, 2).

        It keeps the model and optimizer of its first call: for others, make a new DQNAgent.
        """
        # The first call compiles it. Then 256 states take 10 ms, and 256 calls of model.fit 25 s
        for i in tf.range(len(states)):
            self.model.train_step((states[i], targets[i]))

    def load(self, name):
        """Read weights from a file, NAME.weights.h5, to play without exploring.

        Keras raises an OSError or a ValueError where there are none for this network.
        """
        self.model.load_weights(name)
        self.model.optimizer.learning_rate = self.learning_rate  # the file brings its own
        self.weights = self.model.get_weights()
        self.epsilon = 0  # to go on with the training, set it to epsilon_min

    def save(self, name):
        """Write the weights to a file, NAME.weights.h5."""
        self.model.save_weights(name)


def sit_exam(agent, games):
    """Play new games, all at once and without exploring; return how many last all 500 frames."""
    states, _ = games.reset()
    lost = np.zeros(games.num_envs, bool)
    for _ in range(500):
        actions = np.argmax(agent.predict(states), axis=1)
        states, _, terminated, _, _ = games.step(actions)
        lost |= terminated  # a lost game begins anew by itself, but stays lost
    return np.sum(~lost)


def watch(weights, gif):
    """Play one game with the weights of a file, in a window or into the animation `gif`."""
    import pygame
    from PIL import Image
    if not gif:
        pygame.display.init()
        if pygame.display.get_driver() == "offscreen":
            raise RuntimeError("there is no screen for a window; --gif FILE needs none")
    env = gym.make('CartPole-v1', render_mode="rgb_array" if gif else "human")
    agent = DQNAgent(env)
    agent.load(weights)
    state, _ = env.reset()
    score, terminated, truncated, images = 0, False, False, []
    while not (terminated or truncated):
        state, _, terminated, truncated, _ = env.step(agent.act(state))
        score += 1
        if gif:
            image = Image.fromarray(env.render())
            images.append(image.convert("P", dither=Image.Dither.NONE))  # a third of the bytes
    env.close()
    if gif:
        images[0].save(gif, save_all=True, append_images=images[1:], duration=20, loop=0)
    print("score:", score)


def save_curve(scores, name):
    """Save a picture of the training games' scores, and of the mean of the last 100."""
    try:
        from matplotlib.figure import Figure
        axes = Figure(figsize=(8, 4), layout="constrained").subplots()
        axes.plot(scores, "C1.", label="each training game")
        axes.plot([np.mean(scores[max(0, e - 99):e + 1]) for e in range(len(scores))], "C0",
                  label="mean of the last 100")
        axes.axhline(475, color="C2", linestyle="--", label="Gym's bar")
        axes.set(xlabel="game", ylabel="score (frames survived)")
        axes.legend()
        axes.figure.savefig(name)
    except Exception as error:  # whatever it is, the weights are saved already
        print(f"no curve is drawn: {error}", file=sys.stderr)


if __name__ == "__main__":
    # Not in the post: the options, and playing with saved weights
    parser = argparse.ArgumentParser()
    parser.add_argument("--watch", action="store_true", help="play one game in a window")
    parser.add_argument("--gif", metavar="FILE.gif", help="play one game into an animation")
    parser.add_argument("--episodes", type=int, default=1000, help="the most games to train for")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another training")
    parser.add_argument("--weights", metavar="NAME", default="save/cartpole-dqn",
                        help="the player's file is NAME.weights.h5")
    args = parser.parse_args([] if "kernel_launcher" in sys.argv[0] else None)  # in a notebook: []
    name = args.weights.removesuffix(".weights.h5")
    if args.gif is not None and not args.gif.endswith(".gif"):
        parser.error("--gif needs a name that ends in .gif")
    if args.watch or args.gif:
        try:
            watch(f"{name}.weights.h5", args.gif)
        except (OSError, RuntimeError, ValueError) as error:  # no file, no screen, another network
            sys.exit(f"dqn.py: cannot show {name}.weights.h5: {error}".splitlines()[0])
        sys.exit()
    # Not in the post: seeds, so that a training can be repeated
    keras.utils.set_random_seed(args.seed)
    # initialize gym environment and the agent. render_mode="human" shows the games in a window
    env = gym.make('CartPole-v1', render_mode=None)  # post: v0; env.render() in the loop
    env.reset(seed=args.seed)
    env.action_space.seed(args.seed)
    agent = DQNAgent(env)
    # Not in the post: the games of the exam, and a file for the weights until it is passed
    exam = gym.make_vec('CartPole-v1', 100)
    exam.reset(seed=args.seed)
    unsolved = f"{name}.unsolved.weights.h5"
    os.makedirs(os.path.dirname(unsolved) or ".", exist_ok=True)
    print(f"the weights are saved in {unsolved}, every tenth game")
    scores, solved = [], False
    # Iterate the game
    for e in range(args.episodes):
        # reset state in the beginning of each game
        state, _ = env.reset()
        state = np.reshape(state, [1, 4])
        # time_t represents each frame of the game. Our goal is to keep the pole upright as long as
        # possible: the more time_t, the more score
        for time_t in range(5000):  # CartPole-v1 ends each game after 500; post: v0, after 200
            # Decide action
            action = agent.act(state)
            # Advance the game to the next frame. terminated: it is lost. truncated: the 500 frames
            # are over, which is no loss: no -100, and its future counts. post: done, for both
            next_state, reward, terminated, truncated, _ = env.step(action)
            next_state = np.reshape(next_state, [1, 4])
            # reward the agent 1 for every frame it lived, and punish -100 for dying
            reward = -100 if terminated else reward
            # Remember the previous state, action, reward, and whether the game was lost
            agent.remember(state, action, reward, next_state, terminated)
            # make next_state the new current state for the next frame
            state = copy.deepcopy(next_state)
            # The game ends: the pole falls, the cart leaves the track, or the time is up
            if terminated or truncated:
                # print the score, the number of frames, and break out of the loop
                scores.append(time_t + 1)  # post: time_t
                mean = np.mean(scores[-100:])  # not in the post; nor is epsilon, below
                print(f"episode: {e}/{args.episodes}, score: {time_t + 1}, "
                      f"mean of last 100: {mean:.1f}, epsilon: {agent.epsilon:.2f}")
                break
        # Not in the post: stop when it is solved. Gym asks for a mean of 475 over 100 games. As the
        # network changed during these, its present weights must then win 100 new games, too
        exam_due = len(scores) >= 100 and mean >= 475
        if exam_due:
            won = sit_exam(agent, exam)
            print(f"exam: {won} of 100 games won")
            solved = won == 100
            if solved:
                break
        # train the agent with the experience of the episode, if it was lost, or the exam (an agent
        # that only loses exams must change, too). post: after each game. Eight times: each replay
        # makes its targets with the network that the one before it has trained
        if terminated or exam_due:
            for _ in range(8):
                agent.replay(256)  # post: once, 32
        # Not in the post: save the weights, every tenth game (the author's later habit)
        if e % 10 == 9:
            agent.save(unsolved)
    # Not in the post: save the player, and a curve. An unsolved one never replaces a solved one
    agent.save(unsolved)
    if not solved:
        save_curve(scores, f"{name}.unsolved.png")
        sys.exit(f"not solved after {len(scores)} games; its weights are in {unsolved}")
    os.replace(unsolved, f"{name}.weights.h5")
    save_curve(scores, f"{name}.png")
    print(f"solved after {len(scores)} games; the player is in {name}.weights.h5")
