//! What the hook allocates when all sequences of a batch generate, from the third pass on.

use std::collections::BTreeMap;
use std::sync::Arc;

use allocation_counter::{AllocationInfo, measure};
use candle_core::{DType, Device, Tensor};
use residual_hooks::{HookSlot, Phase, Prompt, ResidualHook, Row, Support, before_block};
use steermap_plugin::{Program, SteeringHook};

const HIDDEN: usize = 64;
const LAYERS: usize = 6;

/// A program that adds a direction of its own after every layer but the last.
fn program(number: usize) -> Program {
    let direction = |layer: usize| vec![(1 + number * LAYERS + layer) as f32; HIDDEN];
    let layers = (0..LAYERS - 1).map(|layer| (layer, direction(layer)));
    Program::adding(layers.collect::<BTreeMap<_, _>>())
}

/// What passes that each generate a token of `sequences` sequences allocate: the third, and the fourth.
fn third_and_fourth(sequences: usize, dtype: DType) -> [AllocationInfo; 2] {
    let slot = HookSlot::new(Support::EveryBlock, LAYERS, HIDDEN);
    slot.install(Arc::new(SteeringHook::fixed(program(0)))).unwrap();
    // Each sequence has a program of its own.
    let states: Vec<_> = (0..sequences)
        .map(|number| {
            SteeringHook::fixed(program(number))
                .admit(None, &Prompt::text(&[1]))
                .unwrap()
                .state
        })
        .collect();
    let stream = Tensor::ones((sequences, 1, HIDDEN), dtype, &Device::Cpu).unwrap();
    let pass = |position: usize| {
        let rows: Vec<Row> = (states.iter().enumerate())
            .map(|(number, state)| Row {
                start: position,
                prompt_len: 1,
                phase: Phase::Generation,
                state: state.clone(),
                ..Row::prompt(number, vec![1])
            })
            .collect();
        measure(|| {
            slot.scope(
                move || rows,
                || {
                    for layer in 1..LAYERS {
                        let steered = before_block(stream.clone(), layer).unwrap();
                        assert_ne!(steered.id(), stream.id());
                    }
                },
            )
        })
    };
    pass(1);
    pass(2);
    [pass(3), pass(4)]
}

#[test]
fn generating_allocates_the_steered_streams_and_nothing_per_sequence() {
    for (dtype, size) in [(DType::F32, 4), (DType::BF16, 2)] {
        let one = third_and_fourth(1, dtype);
        let many = third_and_fourth(32, dtype);
        let counts = [&one, &many].map(|passes| passes.each_ref().map(|pass| pass.count_total));
        assert_eq!(counts[0], counts[1], "{dtype:?}: as many for 32 sequences as for one");
        assert_eq!(counts[0][0], counts[0][1]);
        // Of each steered stream: its elements, its storage, the tensor, shapes and strides; in bfloat16 a state in float32.
        assert!(counts[0][0] <= 10 * LAYERS as u64, "{counts:?}");
        let elements = (LAYERS - 1) * HIDDEN * size;
        for (sequences, passes) in [(1, &one), (32, &many)] {
            let beside = passes[0].bytes_total - (sequences * elements) as u64;
            assert!(
                beside <= 1024 * LAYERS as u64,
                "{beside} bytes beside the streams of {sequences}"
            );
        }
    }
}
