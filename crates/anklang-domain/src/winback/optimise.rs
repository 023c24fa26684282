//! The greatest likelihood of a model within bounds.
//!
//! Parameters are positive and of unknown size, so the search is over their logarithms; each goes
//! through a logistic curve onto its interval, and no step can leave it or overflow. Gradients are the
//! models' own, not differences. L-BFGS (Nocedal & Wright 2006, algorithm 7.5) is argmin's, with its
//! More-Thuente line search, which goes on for ever where rounding hides progress, so that [`Problem`]
//! ends a search that does not get better. What counts is the gradient where it ended, not why it did.
//!
//! Deterministic: the same input gives the same bits on the same machine.

use std::cell::{Cell, RefCell};

use argmin::core::{CostFunction, Error, Executor, Gradient, State};
use argmin::solver::linesearch::MoreThuenteLineSearch;
use argmin::solver::quasinewton::LBFGS;

/// Most iterations of one search; a fit that goes well needs about 20.
const MOST_ITERATIONS: u64 = 300;
/// A search stops at this gradient.
const STOP: f64 = 1e-8;
/// A search stops after so many places that are no better than the best before.
const MOST_IN_VAIN: u32 = 40;
/// A fit has converged when the mean log-likelihood of a customer changes by less than this for a
/// relative change of a parameter by one.
const CONVERGED: f64 = 1e-6;
/// A parameter nearer to a bound than this share of its interval (of logarithms) is at it.
const AT_BOUND: f64 = 0.01;

/// The log-likelihood of all customers under some parameters, and its derivatives by them.
type Likelihood<'a, const N: usize> = dyn Fn(&[f64; N]) -> (f64, [f64; N]) + 'a;

/// A parameter to find.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    /// Its name in the literature.
    pub name: &'static str,
    /// Least value, above zero.
    pub low: f64,
    /// Greatest value.
    pub high: f64,
    /// Where searches begin, one after the other until one converges; within the bounds.
    pub starts: [f64; 3],
}

/// How well a model fits, and how the search for it ended.
#[derive(Debug, Clone, PartialEq)]
pub struct FitStatistics {
    /// Customers whose data the model was fitted on.
    pub customers: u64,
    /// Logarithm of the likelihood of all their data, natural.
    pub log_likelihood: f64,
    /// Iterations of the search that ended here.
    pub iterations: u64,
    /// Euclidean norm of the mean log-likelihood's gradient by the logarithms of the parameters, those
    /// at bounds left out. At most 1e-6.
    pub gradient_norm: f64,
    /// The parameters that ended at a bound, which the data does not determine: predictions hold,
    /// but the parameter itself says nothing.
    pub at_bounds: Vec<&'static str>,
}

/// The search did not find a greatest likelihood.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NotConverged {
    pub gradient_norm: f64,
    pub iterations: u64,
}

/// Finds the parameters of the greatest likelihood.
pub(super) fn maximise<const N: usize>(
    parameters: &[Parameter; N],
    customers: u64,
    likelihood: &Likelihood<'_, N>,
) -> Result<([f64; N], FitStatistics), NotConverged> {
    let mut best = NotConverged {
        gradient_norm: f64::INFINITY,
        iterations: 0,
    };
    for start in 0..3 {
        let begin = parameters.each_ref().map(|p| p.to_free(p.starts[start]));
        let (free, iterations) = search(parameters, customers, likelihood, begin);
        let (values, fit) = judge(parameters, customers, likelihood, free, iterations);
        // Not a number compares as not converged.
        if fit.gradient_norm <= CONVERGED && fit.log_likelihood.is_finite() {
            return Ok((values, fit));
        }
        if fit.gradient_norm < best.gradient_norm {
            best.gradient_norm = fit.gradient_norm;
            best.iterations = iterations;
        }
    }
    Err(best)
}

/// One search; gives the best place seen and the iterations it took.
fn search<const N: usize>(
    parameters: &[Parameter; N],
    customers: u64,
    likelihood: &Likelihood<'_, N>,
    begin: [f64; N],
) -> ([f64; N], u64) {
    let problem = Problem {
        parameters,
        customers: customers as f64,
        likelihood,
        last: RefCell::new(None),
        best: Cell::new((f64::INFINITY, 0)),
    };
    let solver = LBFGS::new(MoreThuenteLineSearch::new(), 2 * N)
        .with_tolerance_grad(STOP)
        .and_then(|solver| solver.with_tolerance_cost(0.0))
        .expect("the tolerances are not below zero");
    let run = Executor::new(problem, solver)
        .configure(|state| state.param(begin.to_vec()).max_iters(MOST_ITERATIONS))
        .timer(false)
        .run();
    let Ok(mut run) = run else {
        return (begin, 0);
    };
    let iterations = run.state.get_iter();
    let best = run.state.take_best_param();
    let best = best.and_then(|best| <[f64; N]>::try_from(best).ok());
    (best.unwrap_or(begin), iterations)
}

fn judge<const N: usize>(
    parameters: &[Parameter; N],
    customers: u64,
    likelihood: &Likelihood<'_, N>,
    free: [f64; N],
    iterations: u64,
) -> ([f64; N], FitStatistics) {
    let values = inside(parameters, &free);
    let (log_likelihood, gradient) = likelihood(&values);
    let mut at_bounds = Vec::new();
    let mut square = 0.0;
    for (i, parameter) in parameters.iter().enumerate() {
        if (AT_BOUND..=1.0 - AT_BOUND).contains(&logistic(free[i])) {
            square += (gradient[i] * values[i] / customers as f64).powi(2);
        } else {
            at_bounds.push(parameter.name);
        }
    }
    let statistics = FitStatistics {
        customers,
        log_likelihood,
        iterations,
        gradient_norm: square.sqrt(),
        at_bounds,
    };
    (values, statistics)
}

impl Parameter {
    fn span(&self) -> f64 {
        (self.high / self.low).ln()
    }

    fn to_free(self, value: f64) -> f64 {
        let share = (value / self.low).ln() / self.span();
        (share / (1.0 - share)).ln()
    }

    fn value(&self, free: f64) -> f64 {
        self.low * (self.span() * logistic(free)).exp()
    }

    /// Derivative of the value by the free number.
    fn slope(&self, free: f64) -> f64 {
        self.value(free) * self.span() * logistic(free) * logistic(-free)
    }
}

fn logistic(free: f64) -> f64 {
    1.0 / (1.0 + (-free).exp())
}

fn inside<const N: usize>(parameters: &[Parameter; N], free: &[f64; N]) -> [f64; N] {
    std::array::from_fn(|i| parameters[i].value(free[i]))
}

/// A place, the cost there and its gradient.
type Seen = (Vec<f64>, f64, Vec<f64>);

/// The mean log-likelihood of a customer as argmin wants it: below zero, as cost, over free numbers.
struct Problem<'a, const N: usize> {
    parameters: &'a [Parameter; N],
    customers: f64,
    likelihood: &'a Likelihood<'a, N>,
    /// Cost and gradient are asked for one after the other at the same place.
    last: RefCell<Option<Seen>>,
    /// The least cost seen, and how many places since were no better.
    best: Cell<(f64, u32)>,
}

impl<const N: usize> Problem<'_, N> {
    fn at(&self, free: &[f64]) -> Result<(f64, Vec<f64>), Error> {
        if let Some((place, cost, gradient)) = &*self.last.borrow()
            && place == free
        {
            return Ok((*cost, gradient.clone()));
        }
        let place: [f64; N] = std::array::from_fn(|i| free[i]);
        let (value, slopes) = (self.likelihood)(&inside(self.parameters, &place));
        let cost = -value / self.customers;
        let gradient: Vec<f64> = (0..N)
            .map(|i| -slopes[i] * self.parameters[i].slope(place[i]) / self.customers)
            .collect();
        *self.last.borrow_mut() = Some((free.to_vec(), cost, gradient.clone()));
        let (least, in_vain) = self.best.get();
        self.best.set(match cost < least {
            true => (cost, 0),
            false => (least, in_vain + 1),
        });
        if in_vain >= MOST_IN_VAIN {
            return Err(Error::msg("nothing better is found"));
        }
        Ok((cost, gradient))
    }
}

impl<const N: usize> CostFunction for Problem<'_, N> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, free: &Vec<f64>) -> Result<f64, Error> {
        Ok(self.at(free)?.0)
    }
}

impl<const N: usize> Gradient for Problem<'_, N> {
    type Param = Vec<f64>;
    type Gradient = Vec<f64>;

    fn gradient(&self, free: &Vec<f64>) -> Result<Vec<f64>, Error> {
        Ok(self.at(free)?.1)
    }
}
