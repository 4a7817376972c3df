"""The guided story above the Learn page's pictures: one thing to look at, one question, the answer after a guess."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import streamlit as st

from app.state.learn.learn_address import LearnState, read_state, write_state
from app.text.plain import plain
from app.views.learn.stories import Step, Story, load_stories

Apply = Callable[[LearnState], None]
"""Shows another state of the page, from a button's callback."""


def choice(state: LearnState, apply: Apply) -> None:
    """Draw the choice of a story; a chosen one begins with its first step."""
    stories = {story.id: story for story in load_stories()}
    key = f"learn.story.{state.story}"  # its own widget for each story, so that it shows the one that a link opened

    def begin() -> None:
        chosen = st.session_state[key]
        apply(step_state(stories[chosen], 1, state) if chosen else replace(state, story="", step=1))

    names = ["", *stories]
    st.selectbox(
        "Story",
        names,
        index=names.index(state.story) if state.story in stories else 0,
        format_func=lambda name: stories[name].title if name else "Explore freely, or choose a story",
        key=key,
        on_change=begin,
        label_visibility="collapsed",
        width=330,
    )


def _story(state: LearnState) -> Story | None:
    return next((story for story in load_stories() if story.id == state.story), None)


def step_state(story: Story, number: int, state: LearnState) -> LearnState:
    """Return the page's state at a step of a story, from 1; the projector stays as it is."""
    given, _ = read_state(story.steps[number - 1].state)
    return replace(given, story=story.id, step=number, projector=state.projector)


def resumed(state: LearnState, address: Mapping[str, str]) -> tuple[LearnState, list[str]]:
    """Return the state that a link to a story opens, and what is wrong with the link.

    A link with a story and a step alone opens the step as it is told; other parameters of the link are kept.
    """
    story = _story(state)
    if story is None:
        return replace(state, story="", step=1), [f"There is no story {state.story!r}; choose one from the list."]
    number = min(state.step, len(story.steps))
    if address.keys() <= {"story", "step", "projector"}:
        return step_state(story, number, state), []
    return replace(state, step=number), []


def draw(state: LearnState, apply: Apply) -> None:
    """Draw the step of the story that is told; nothing without one."""
    story = _story(state)
    if story is None:
        return
    step = story.steps[state.step - 1]
    with st.container(border=True, key="learn-story"):
        left, right = st.columns([3, 2], gap="large")
        with left:
            st.markdown(f"**{plain(story.title)}** · step {state.step} of {len(story.steps)}: **{plain(step.title)}**")
            st.progress(state.step / len(story.steps))
            st.text(step.look)
        with right:
            _question(story, step, state.step)
        with st.container(horizontal=True):
            _buttons(story, state, apply)


def _question(story: Story, step: Step, number: int) -> None:
    guess = st.radio(
        plain(step.question),
        range(len(step.choices)),
        index=None,
        format_func=lambda index: plain(step.choices[index]),
        key=f"learn.guess.{story.id}.{number}",
        persist_state="session",
    )
    if guess is None:
        st.caption("Try it on the page, then choose an answer: the reason appears here.")
    elif guess == step.answer:
        st.success(f"Right. {plain(step.because)}", icon=":material/check:")
    else:
        st.warning(f"Not quite: it is “{plain(step.choices[step.answer])}”. {plain(step.because)}", icon=":material/lightbulb:")


def _buttons(story: Story, state: LearnState, apply: Apply) -> None:
    last = state.step == len(story.steps)

    def go(number: int) -> None:
        apply(step_state(story, number, state))

    st.button(
        "Previous step",
        icon=":material/arrow_back:",
        key="learn.previous",
        disabled=state.step == 1,
        on_click=go,
        args=(state.step - 1,),
    )
    st.button(
        "Next step",
        icon=":material/arrow_forward:",
        key="learn.next",
        type="primary",
        disabled=last,
        on_click=go,
        args=(state.step + 1,),
    )
    moved = write_state(state) != write_state(step_state(story, state.step, state))
    st.button(
        "Back to the story",
        icon=":material/undo:",
        key="learn.back",
        disabled=not moved,
        on_click=go,
        args=(state.step,),
        help="Show the page again as this step begins.",
    )
    st.button(
        "Explore freely",
        icon=":material/explore:",
        key="learn.explore",
        on_click=apply,
        args=(replace(state, story="", step=1),),
        help="Close the story and keep what the page shows.",
    )
    if last:
        st.caption(plain(f"The end of this story; lesson {story.lesson:02d} in the notebooks goes on from here."))
