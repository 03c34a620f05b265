"""The work of `finetune`: model and data read, the run made, its steps shown."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from ...checkpoint.adapter import LoraParameters, identity
from ...checkpoint.config import ModelConfig, read_config
from ...checkpoint.hub import Source
from ...checkpoint.remote import find_headers
from ...conversation.loading import name_of
from ...finetune.chosen import Chosen, ChosenAdapters, ChosenWeights
from ...finetune.lora import DEFAULT_RANK, DEFAULT_SCALE, DEFAULT_TARGETS
from ...finetune.objective import Objective
from ...finetune.plan import Load, Plan, plan
from ...finetune.ranks import Ranks, launched
from ...finetune.recipe import Recipe
from ...finetune.state import Keeper
from ...finetune.train import Training, train
from ...machine.awake import awake
from ...machine.dtypes import mlx_dtype
from ...machine.memory import use_all_gpu_memory
from ...text.tokenizer import load_tokenizer
from ..errors import exit_code
from ..models.consent import ask_on_terminal, find
from ..options import ModelOptions
from ..terminal.output import require_output, show, write_json, write_lines
from ..terminal.progress import Bar
from ..terminal.signals import raise_lost
from ..terminal.streams import say
from . import text
from .examples import Data, length_of, read_data
from .options import AdapterOptions, CourseOptions, DataOptions, PlaceOptions
from .plan import plan_json, plan_lines
from .shown import Shown

FREE = "save_every", "valid_every"  # of a recipe: what may differ where a run is resumed


@dataclass(frozen=True)
class Job:
    """A model, examples, and the way to train the one on the other."""

    model: ModelOptions
    data: DataOptions
    adapter: AdapterOptions
    course: CourseOptions
    place: PlaceOptions

    def train(self, as_json: bool) -> int:
        """Train, each step shown; an interrupt keeps the last finished one."""
        require_output()
        ranks = launched()
        training = self._training(ranks)
        if ranks.number:  # process 0 writes and prints
            for _ in training:
                pass
            return 0
        code = _shown(training, as_json)
        full, out = self.adapter.full, self.place.out
        if as_json:
            write_json(text.end_json(training, out, full=full))
        elif training.state.step:
            write_lines(text.end_lines(training, out, self.model.name, full=full))
        return code

    def plan(self, as_json: bool) -> int:
        """Memory and time of a step; of a repository that is not here only headers are fetched."""
        self.course.recipe()
        with find_headers(self.model.name, offline=self.model.offline) as source:
            config = read_config(source.folder)
            longest = length_of(self.data, source.folder, config)
            planned = self._planned(source, self._chosen(source, config), longest)
        show(plan_json(planned), plan_lines(planned), as_json)
        return 0

    def _planned(self, source: Source, chosen: Chosen, longest: int) -> Plan:
        """The arithmetic of a step whose longest example has so many tokens."""
        course = self.course
        load = Load(
            batch=course.batch,
            length=longest,
            canvases=course.canvases or 1,
            accumulate=course.accumulate or 1,
            modules=chosen.modules,
            rank=DEFAULT_RANK if self.adapter.lora_rank is None else self.adapter.lora_rank,
            optimizer=course.optimizer or "adamw",
            checkpoint=course.grad_checkpoint,
        )
        return plan(source.folder, load, self.model.dtype, shape_only=True)

    def _training(self, ranks: Ranks) -> Training:
        """The run; all that can be wrong is found before the weights are read."""
        course, place = self.course, self.place
        recipe = course.recipe(save_every=place.save_every, valid_every=self.data.valid_every)
        consent = ask_on_terminal(self.model.dtype)
        source = find(self.model.name, offline=self.model.offline, consent=consent)
        config = read_config(source.folder)
        keeper = Keeper(place.out)
        if not ranks.number:
            keeper.require_free(resume=place.resume, overwrite=place.overwrite)
        chosen = self._chosen(source, config)
        if self.adapter.full and config.quantization and not ranks.number:
            say(f"{name_of(source.folder)} is packed; its weights are unpacked to float32.")
        data = read_data(self.data, course, load_tokenizer(source.folder), config, recipe, ranks)
        keeper.write, keeper.identity = chosen.write, self._identity(source, chosen, recipe, data)
        if not ranks.number:
            keeper.check(resume=place.resume, overwrite=place.overwrite)
        if not self.model.force:
            self._planned(source, chosen, data.longest).require_room()
        with Bar("loading layers") as bar:
            trained, values = chosen.load(recipe.seed, bar)
        use_all_gpu_memory()
        training = train(
            trained,
            values,
            data.batches,
            recipe,
            objective=Objective(
                checkpoint=course.grad_checkpoint,
                leave_one_out=course.leave_one_out,
                reweighted=course.reweighted,
            ),
            valid=data.valid,
            keeper=keeper,
            resume=place.resume,
            overwrite=place.overwrite,
            ranks=ranks,
        )
        for line in keeper.notes:
            say(line)
        return training

    def _chosen(self, source: Source, config: ModelConfig) -> Chosen:
        """The numbers that are trained; SettingsError for unknown targets and a wrong rank."""
        given, dtype = self.adapter, self.model.dtype
        if given.full:
            return ChosenWeights(source.folder, config, seeing=config.vision is not None)
        lora = LoraParameters(
            rank=DEFAULT_RANK if given.lora_rank is None else given.lora_rank,
            scale=DEFAULT_SCALE if given.lora_scale is None else given.lora_scale,
            dropout=given.lora_dropout or 0.0,
        )
        return ChosenAdapters(
            source.folder,
            config,
            self.model.name,
            lora,
            tuple(given.targets or DEFAULT_TARGETS),
            mlx_dtype(dtype) if dtype else None,
        )

    def _identity(
        self, source: Source, chosen: Chosen, recipe: Recipe, data: Data
    ) -> Mapping[str, Any]:
        """All that decides the numbers of a run, under the names that a user knows."""
        course = {k: v for k, v in asdict(recipe).items() if k not in FREE}
        course["warmup"] = recipe.warmup_steps
        return {
            "model": identity(source.folder),
            "dtype": self.model.dtype,
            **chosen.facts,
            **data.facts,
            **course,
            "leave_one_out": self.course.leave_one_out,
            "reweighted": self.course.reweighted,
        }


def _shown(training: Training, as_json: bool) -> int:
    """Train and show each step; the exit code."""
    try:
        with awake(), Shown(as_json) as shown, closing(iter(training)) as steps:
            for progress in steps:
                shown(progress)
                raise_lost()
    except KeyboardInterrupt as interrupt:
        step = training.state.step
        kept = f"step {step:,} is kept, go on by --resume" if step else "no step was finished"
        say(f"interrupted; {kept}.")
        return exit_code(interrupt)
    return 0
