//! Numbers of any size, of either type, on any number of threads.

use super::*;

const MODES: [usize; 3] = [5, 4, 6];

#[test]
fn the_size_of_numbers_changes_nothing() {
    let plain = all(&draw(120, 1), &MODES, &Alternating::default()).unwrap();
    for size in [1e-300, 1e-200, 1e-20, 1e40, 1e155, 1e300] {
        let values: Vec<f64> = draw(120, 1).into_iter().map(|value| value * size).collect();
        for ((name, _, error), (_, _, wanted)) in
            all(&values, &MODES, &Alternating::default()).unwrap().iter().zip(&plain)
        {
            assert!((error / wanted - 1.0).abs() < 1e-6, "{name} at {size:e}: {error} for {wanted}");
        }
    }
}

#[test]
fn single_precision_is_widened() {
    let narrow: Vec<f32> = draw(120, 2).into_iter().map(|value| value as f32).collect();
    let wide: Vec<f64> = narrow.iter().copied().map(f64::from).collect();
    let options = Alternating::default();
    for (a, b) in all(&narrow, &MODES, &options).unwrap().iter().zip(all(&wide, &MODES, &options).unwrap()) {
        assert_eq!(a, &b);
    }
    let smallest = [f32::from_bits(1); 120];
    assert!(all(&smallest, &MODES, &options).unwrap().iter().all(|(_, _, error)| *error < 1e-12));
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads_but_on_the_seed() {
    let modes = [60, 50, 40];
    let values = draw(modes.iter().product(), 3);
    let options = Alternating { sweeps: 2, starts: 2, ..Alternating::default() };
    let run = |threads: usize, options: &Alternating| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| all(&values, &modes, options).unwrap())
    };
    let one = run(1, &options);
    for threads in [2, 3, 8] {
        for (a, b) in run(threads, &options).iter().zip(&one) {
            let bits = |made: &Made| made.1.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert!(bits(a) == bits(b), "{} on {threads} threads", a.0);
        }
    }
    // On random numbers random starts win.
    let random = draw(120, 4);
    let found = |seed| {
        let options = Alternating { seed, starts: 2, ..Alternating::default() };
        [1, 2].map(|_| canonical(&random, &MODES, 3, &options).unwrap())
    };
    assert_eq!(found(1)[0], found(1)[1]);
    assert!((0..8).any(|seed| found(seed)[0].found != found(9)[0].found));
}
