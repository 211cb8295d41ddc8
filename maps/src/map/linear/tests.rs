//! Products worked out by hand, and numpy's.

use serde::Deserialize;

use super::*;

fn affine() -> LinearMap {
    AffineMap {
        weight: DMatrix::from_row_slice(2, 3, &[1.0, 2.0, -3.0, 0.5, 0.0, 4.0]),
        bias: DVector::from_row_slice(&[10.0, -20.0]),
    }
    .into()
}

/// `A = [[1, 2, 3], [2, 4, 6]]`.
fn low_rank() -> LinearMap {
    LowRankMap {
        left: DMatrix::from_row_slice(2, 1, &[1.0, 2.0]),
        right: DMatrix::from_row_slice(1, 3, &[1.0, 2.0, 3.0]),
        bias: DVector::from_row_slice(&[-1.0, 0.5]),
    }
    .into()
}

#[test]
fn known_products() {
    let map = affine();
    assert_eq!(map.linear(&[1.0, 10.0, 100.0]), [-279.0, 400.5]);
    assert_eq!(map.affine(&[1.0, 10.0, 100.0]), [-269.0, 380.5]);
    assert_eq!(map.linear(&[0.0; 3]), [0.0, 0.0]);
    assert_eq!(map.affine(&[0.0; 3]), [10.0, -20.0]);
    let map = low_rank();
    assert_eq!(map.linear(&[1.0, 10.0, 100.0]), [321.0, 642.0]);
    assert_eq!(map.affine(&[1.0, 10.0, 100.0]), [320.0, 642.5]);
    assert_eq!(map.affine(&[0.0; 3]), [-1.0, 0.5]);
}

#[test]
fn both_kinds_say_what_they_are() {
    let map = affine();
    assert_eq!((map.kind(), map.rows(), map.columns()), (MapKind::Affine, 2, 3));
    assert_eq!(
        (map.bytes(), map.kind().to_string()),
        (6 * 4 + 2 * 4, "affine".to_owned())
    );
    assert_eq!(map.bytes_as(FloatDtype::F16), 6 * 2 + 2 * 4);
    let map = low_rank();
    assert_eq!(
        (map.kind(), map.rows(), map.columns()),
        (MapKind::LowRank { rank: 1 }, 2, 3)
    );
    assert_eq!(
        (map.bytes(), map.kind().to_string()),
        (5 * 4 + 2 * 4, "low-rank".to_owned())
    );
    assert_eq!(map.dtype(), FloatDtype::F32);
}

#[test]
fn the_whole_matrix_of_either_kind() {
    let map = affine().to_affine();
    assert_eq!(LinearMap::from(map), affine());
    let map = low_rank().to_affine();
    assert_eq!(
        map.weight,
        DMatrix::from_row_slice(2, 3, &[1.0, 2.0, 3.0, 2.0, 4.0, 6.0])
    );
    assert_eq!(map.bias.as_slice(), [-1.0, 0.5]);
}

/// Why a steering vector moves by the linear part: `A (h + a v) + p - (A h + p) = a A v`.
#[test]
fn differences_of_states_move_by_the_linear_part() {
    for map in [affine(), low_rank()] {
        let (h, v, a) = ([3.0, -1.0, 0.25], [1.0, 0.5, -2.0], 4.0);
        let steered: Vec<f32> = h.iter().zip(v).map(|(h, v)| h + a * v).collect();
        let (before, after) = (map.affine(&h), map.affine(&steered));
        let moved: Vec<f32> = after.iter().zip(before).map(|(after, before)| after - before).collect();
        let expected: Vec<f32> = map.linear(&v).iter().map(|value| a * value).collect();
        assert_eq!(moved, expected);
        assert!(moved.iter().any(|value| *value != 0.0));
    }
}

#[test]
fn sums_are_taken_in_f64() {
    let map: LinearMap = AffineMap {
        weight: DMatrix::from_row_slice(1, 3, &[1e8, 1.0, -1e8]),
        bias: DVector::from_row_slice(&[-1.0]),
    }
    .into();
    assert_eq!(map.linear(&[1.0; 3]), [1.0]);
    // Before the bias, nothing is rounded to f32.
    assert_eq!(map.affine(&[1.0, 1.0 + f32::EPSILON, 1.0]), [f32::EPSILON]);
    // What f32 can't hold.
    assert_eq!(map.linear(&[f32::MAX, 0.0, 0.0]), [f32::INFINITY]);
    // Nor is it between two factors.
    let map: LinearMap = LowRankMap {
        left: DMatrix::from_row_slice(1, 2, &[1.0, -1.0]),
        right: DMatrix::from_row_slice(2, 2, &[1e8, 1.0, 1e8, 0.0]),
        bias: DVector::zeros(1),
    }
    .into();
    assert_eq!(map.linear(&[1.0, 1.0]), [1.0]);
}

#[test]
fn many_states_at_once() {
    let states = [1.0, 10.0, 100.0, 0.0, 0.0, 0.0, -1.0, 0.5, 2.0];
    for map in [affine(), low_rank()] {
        let each: Vec<f32> = states.chunks(3).flat_map(|state| map.affine(state)).collect();
        assert_eq!(map.affine_rows(&states), each);
        assert!(map.affine_rows(&[]).is_empty());
    }
}

/// More rows and columns than are decoded at a time, and numbers of them that aren't multiples. They are small whole
/// numbers, so all sums are exact in any order.
#[test]
fn large_products_are_exact() {
    let (rows, columns, count) = (131, 1101, 5);
    let weight = |row: usize, column: usize| ((row * 31 + column * 17) % 23) as i64 - 11;
    let state = |index: usize| (index % 13) as i64 - 6;
    let dense = DMatrix::from_fn(rows, columns, |row, column| weight(row, column) as f32);
    let map: LinearMap = AffineMap {
        weight: dense.clone(),
        bias: DVector::from_fn(rows, |row, _| row as f32),
    }
    .into();
    assert_eq!(map.matrices()[0].to_dense(), dense);
    let states: Vec<f32> = (0..count * columns).map(|index| state(index) as f32).collect();
    let expected = (0..count).flat_map(|of| {
        (0..rows).map(move |row| {
            let products = (0..columns).map(|column| weight(row, column) * state(of * columns + column));
            (products.sum::<i64>() + row as i64) as f32
        })
    });
    let expected: Vec<f32> = expected.collect();
    let each: Vec<f32> = states.chunks(columns).flat_map(|state| map.affine(state)).collect();
    assert_eq!(each, expected);
    assert_eq!(map.affine_rows(&states), expected);
}

#[test]
#[should_panic(expected = "a vector of 2 values for a matrix of 3 columns")]
fn vectors_must_fit() {
    affine().linear(&[1.0; 2]);
}

#[test]
#[should_panic(expected = "4 values for a matrix of 3 columns")]
fn states_must_fit() {
    affine().affine_rows(&[1.0; 4]);
}

#[test]
#[should_panic(expected = "a bias of 3 values for a map of 2 rows")]
fn biases_must_fit() {
    let bias = DVector::zeros(3);
    LinearMap::from(AffineMap {
        bias,
        ..affine().to_affine()
    })
    .affine(&[1.0; 3]);
}

#[test]
fn what_is_not_finite_is_found_where_the_file_has_it() {
    let problem = |map: LinearMap, dtype| map.check_numbers(7, dtype).map_err(|problem| problem.to_string());
    assert_eq!(problem(affine(), FloatDtype::F16), Ok(()));
    let mut map = affine().to_affine();
    map.weight[(1, 0)] = f32::NAN;
    assert_eq!(
        problem(map.into(), FloatDtype::F32).unwrap_err(),
        "tensor \"pair.7.weight\": found NaN at index 3, expected finite numbers"
    );
    let mut map = affine().to_affine();
    map.bias[1] = f32::NEG_INFINITY;
    assert_eq!(
        problem(map.into(), FloatDtype::F32).unwrap_err(),
        "tensor \"pair.7.bias\": found -inf at index 1, expected finite numbers"
    );
    // In a piece that isn't the first.
    let mut weight = DMatrix::zeros(2, 700);
    weight[(1, 699)] = 70_000.0;
    let map: LinearMap = AffineMap {
        weight,
        bias: DVector::zeros(2),
    }
    .into();
    assert_eq!(problem(map.clone(), FloatDtype::Bf16), Ok(()));
    assert_eq!(
        problem(map, FloatDtype::F16).unwrap_err(),
        "tensor \"pair.7.weight\": found 70000 at index 1399, expected numbers that f16 can hold"
    );
}

#[test]
fn factors_must_fit_each_other() {
    let problem = |left: (usize, usize), right: (usize, usize), bias| {
        let map: LinearMap = LowRankMap {
            left: DMatrix::zeros(left.0, left.1),
            right: DMatrix::zeros(right.0, right.1),
            bias: DVector::zeros(bias),
        }
        .into();
        map.check_shape(3, 2, 5).map_err(|problem| problem.to_string())
    };
    assert_eq!(problem((2, 1), (1, 5), 2), Ok(()));
    assert_eq!(problem((2, 2), (2, 5), 2), Ok(()));
    assert_eq!(
        problem((2, 3), (3, 5), 2).unwrap_err(),
        "pair.3.rank: found 3, expected 1 to 2, the smaller side of the map's matrix"
    );
    assert!(
        problem((2, 0), (0, 5), 2)
            .unwrap_err()
            .starts_with("pair.3.rank: found 0")
    );
    assert_eq!(
        problem((2, 1), (2, 5), 2).unwrap_err(),
        "tensor \"pair.3.right\": found shape [2, 5], expected [1, 5]"
    );
    assert!(
        problem((3, 1), (1, 5), 2)
            .unwrap_err()
            .contains("\"pair.3.left\": found shape [3, 1]")
    );
    assert!(
        problem((2, 1), (1, 4), 2)
            .unwrap_err()
            .contains("\"pair.3.right\": found shape [1, 4]")
    );
    assert!(
        problem((2, 1), (1, 5), 3)
            .unwrap_err()
            .contains("\"pair.3.bias\": found shape [3]")
    );
}

/// A map, its bytes in a dtype, and what numpy makes of it.
#[derive(Deserialize)]
struct Reference {
    rows: usize,
    columns: usize,
    rank: Option<usize>,
    dtype: FloatDtype,
    /// The matrices' numbers, as bits of the dtype.
    matrices: Vec<Vec<u32>>,
    bias: Vec<f32>,
    vector: Vec<f32>,
    linear: Vec<f64>,
    affine: Vec<f64>,
}

/// The fixture is of numpy and ml_dtypes: `fixtures/make_products.py`. The bits go through a file, as everywhere.
#[test]
fn products_are_numpys() {
    let all: Vec<Reference> = serde_json::from_str(include_str!("../fixtures/products.json")).unwrap();
    assert_eq!(all.len(), 6);
    for of in all {
        let kind = of.rank.map_or(MapKind::Affine, |rank| MapKind::LowRank { rank });
        let shapes = kind.matrices(of.rows, of.columns);
        let matrices = shapes.iter().zip(&of.matrices).map(|((_, [rows, columns]), bits)| {
            let bytes = bits
                .iter()
                .flat_map(|bits| bits.to_le_bytes()[..of.dtype.bytes()].to_vec());
            let bytes: Vec<u8> = bytes.collect();
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, &bytes).unwrap();
            // SAFETY: nobody else has this file.
            let mapped = unsafe { memmap2::Mmap::map(&file) }.unwrap();
            WeightMatrix::mapped(*rows, *columns, of.dtype, mapped)
        });
        let map = LinearMap::of(matrices.collect(), of.bias);
        assert_eq!((map.kind(), map.dtype()), (kind, of.dtype));
        let close = |found: &[f32], expected: &[f64], tolerance: f64| {
            assert_eq!(found.len(), expected.len());
            let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            for (found, expected) in found.iter().zip(expected) {
                let apart = (f64::from(*found) - expected).abs() / largest;
                assert!(apart < tolerance, "{kind} {}: {found}, expected {expected}", of.dtype);
            }
        };
        // Both sum up in f64; what is left is the rounding of the result to f32.
        close(&map.linear(&of.vector), &of.linear, 1e-7);
        close(&map.affine(&of.vector), &of.affine, 1e-7);
        close(&map.affine_rows(&of.vector), &of.affine, 1e-5);
    }
}
