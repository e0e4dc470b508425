// Intrusive doubly linked lists. An object carries its links, so moving it to
// another list allocates nothing and costs a few stores.
#ifndef HOTLINE_POOL_LIST_H_
#define HOTLINE_POOL_LIST_H_

namespace hotline::pool {

// Base class of elements. An object can be in one list of each Tag at a time.
template <typename Tag>
class Link {
 public:
  Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  bool linked() const { return next_ != nullptr; }

  // Does nothing if it is in no list.
  void Unlink() {
    if (next_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    prev_ = next_ = nullptr;
  }

 private:
  template <typename, typename>
  friend class List;

  Link* prev_ = nullptr;
  Link* next_ = nullptr;
};

// Does not own its elements: an element must be unlinked before it is
// destroyed.
template <typename T, typename Tag>
class List {
 public:
  List() { head_.prev_ = head_.next_ = &head_; }
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  bool empty() const { return head_.next_ == &head_; }

  // Null if empty.
  T* front() const { return Cast(head_.next_); }
  T* back() const { return Cast(head_.prev_); }
  // Null at the end.
  T* Next(const T* item) const {
    return Cast(static_cast<const Link<Tag>*>(item)->next_);
  }

  // REQUIRES: the item is in no list of this Tag.
  void PushFront(T* item) { InsertAfter(&head_, item); }
  void PushBack(T* item) { InsertAfter(head_.prev_, item); }

 private:
  T* Cast(Link<Tag>* link) const {
    return link == &head_ ? nullptr : static_cast<T*>(link);
  }

  static void InsertAfter(Link<Tag>* at, T* item) {
    Link<Tag>* link = item;
    link->prev_ = at;
    link->next_ = at->next_;
    at->next_->prev_ = link;
    at->next_ = link;
  }

  mutable Link<Tag> head_;
};

}  // namespace hotline::pool

#endif  // HOTLINE_POOL_LIST_H_
